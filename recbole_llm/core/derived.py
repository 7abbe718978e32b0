"""Checks of values against what RecBole derives from the class of a model or of a metric."""

from __future__ import annotations

from typing import TYPE_CHECKING

from recbole.utils import InputType, ModelType

from recbole_llm.core.keys.evaluation import RecBoleEvaluation
from recbole_llm.core.plugins.loading import get_registry

if TYPE_CHECKING:
    from recbole_llm.core.config import Config

_LOSSES = ("CE", "BPR")  # losses of RecBole's sequential models
_FEWER = {"CORE": ("CE",)}
_WHOLE_CATALOGUE = ("GRU4RecCPR", "SASRecCPR")  # their predict() ends in `assert False`


def check_derived(config: Config) -> None:
    """Refuse values that contradict what RecBole derives.

    Raises:
        ValueError: valid_metric_bigger contradicts the metric; the model lacks the loss, needs
            negatives and gets none, does not say how it reads them, or cannot use dynamic ones or
            sampled candidates; or a device is missing.
    """
    for shared in get_registry().shared_settings():
        shared.of(config).check_device()
    bigger = config["valid_metric_bigger"]  # from the metric's class, also a plugin's
    if config.external_config_dict.get("valid_metric_bigger") not in (None, bigger):
        raise ValueError(
            f"valid_metric_bigger: {'higher' if bigger else 'lower'} {config['valid_metric']} is "
            f"better, as its class says; leave the key out"
        )
    if config.model_class.__module__.startswith("recbole."):
        _check_negatives(config)
        _check_dynamic(config)
        _check_loss(config)
        _check_candidates(config)
    elif config["MODEL_INPUT_TYPE"] is None and _draws_negatives(config):
        raise ValueError(
            f"train_neg_sample_args: negatives are drawn, but {config['model']} does not say how "
            f"it reads them; give its class an input_type (RecBole's InputType.PAIRWISE or "
            f"POINTWISE), or draw none: --train_neg_sample_args=None"
        )


def _draws_negatives(config: Config) -> bool:
    return bool(config["train_neg_sample_args"]["distribution"] != "none")


def _check_negatives(config: Config) -> None:
    """Refuse training without negatives for pairwise models, which need one for each target."""
    from recbole.data import dataloader, utils

    pairwise = config["MODEL_INPUT_TYPE"] == InputType.PAIRWISE and config["loss_type"] != "CE"
    if _draws_negatives(config) or not pairwise:
        return
    if utils.get_dataloader(config, "train") is not dataloader.UserDataLoader:  # autoencoders
        raise ValueError(
            f"train_neg_sample_args: {config['model']} compares each item with a negative one, and "
            f"none are drawn; leave the key out"
        )


def _check_dynamic(config: Config) -> None:
    """Refuse dynamic negatives where RecBole scores them with the positive item's fields."""
    if config["train_neg_sample_args"]["dynamic"] and config["MODEL_TYPE"] == ModelType.CONTEXT:
        raise ValueError(
            f"train_neg_sample_args: with {config['model']}, dynamic scores all candidates by the "
            f"positive item's fields; leave dynamic out"
        )


def _check_loss(config: Config) -> None:
    """Refuse a loss from which RecBole cannot derive the model's input type."""
    name, loss = config["model"], config["loss_type"]
    known = _FEWER.get(name, _LOSSES)
    if not hasattr(config.model_class, "input_type") and loss not in known:
        raise ValueError(f"loss_type: expected {' or '.join(known)} with {name}, got {loss!r}")


def _check_candidates(config: Config) -> None:
    modes = set(RecBoleEvaluation.of(config).eval_args.modes())
    if config["model"] in _WHOLE_CATALOGUE and modes != {"full"}:
        raise ValueError(
            f"eval_args: {config['model']} scores all items at once, and cannot score sampled "
            f"candidates; set mode: full"
        )
