"""Values that contradict what RecBole derives from the class of a model or of a metric."""

from __future__ import annotations

from typing import TYPE_CHECKING

from recbole.utils import InputType, ModelType

from recbole_llm.core.keys.evaluation import RecBoleEvaluation
from recbole_llm.core.plugins.loading import get_registry

if TYPE_CHECKING:
    from recbole_llm.core.config import Config

_LOSSES = ("CE", "BPR")  # of RecBole's sequential models
_FEWER = {"CORE": ("CE",)}
_WHOLE_CATALOGUE = ("GRU4RecCPR", "SASRecCPR")  # their predict() ends in `assert False`


def check_derived(config: Config) -> None:
    """Refuse values that contradict what RecBole derives.

    Raises:
        ValueError: no negatives for a model that reads them, another direction of a metric, a loss
            that a model lacks, sampled candidates for one that cannot score them, or a device that
            is not there.
    """
    for shared in get_registry().shared_settings():
        shared.of(config).check_device()
    bigger = config["valid_metric_bigger"]  # of the metric's class, a plugin's too
    if config.external_config_dict.get("valid_metric_bigger") not in (None, bigger):
        raise ValueError(
            f"valid_metric_bigger: {'more' if bigger else 'less'} of {config['valid_metric']} is "
            f"better, as its class says; leave the key out"
        )
    if config.model_class.__module__.startswith("recbole."):
        _check_negatives(config)
        _check_dynamic(config)
        _check_loss(config)
        _check_candidates(config)


def _check_negatives(config: Config) -> None:
    """Pairwise models read a negative for each target."""
    from recbole.data import dataloader, utils

    drawn = config["train_neg_sample_args"]["distribution"] != "none"
    pairwise = config["MODEL_INPUT_TYPE"] == InputType.PAIRWISE and config["loss_type"] != "CE"
    if drawn or not pairwise:
        return
    if utils.get_dataloader(config, "train") is not dataloader.UserDataLoader:  # of autoencoders
        raise ValueError(
            f"train_neg_sample_args: {config['model']} compares each item with a negative one, and "
            f"none are drawn; leave the key out"
        )


def _check_dynamic(config: Config) -> None:
    """RecBole scores the candidates of dynamic negatives with the fields of the positive item."""
    if config["train_neg_sample_args"]["dynamic"] and config["MODEL_TYPE"] == ModelType.CONTEXT:
        raise ValueError(
            f"train_neg_sample_args: dynamic compares candidates by the positive item's fields "
            f"with {config['model']}; leave dynamic out"
        )


def _check_loss(config: Config) -> None:
    """Refuse a loss from which RecBole cannot derive the input type that a class leaves open."""
    name, loss = config["model"], config["loss_type"]
    known = _FEWER.get(name, _LOSSES)
    if not hasattr(config.model_class, "input_type") and loss not in known:
        raise ValueError(f"loss_type: expected {' or '.join(known)} with {name}, got {loss!r}")


def _check_candidates(config: Config) -> None:
    modes = set(RecBoleEvaluation.of(config).eval_args.modes())
    if config["model"] in _WHOLE_CATALOGUE and modes != {"full"}:
        raise ValueError(
            f"eval_args: {config['model']} scores all items at once, and no candidates alone; set "
            f"mode: full"
        )
