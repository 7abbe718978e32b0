"""RecBole's ``Config`` with plugin models, safe literals and checked keys.

Precedence, lowest first: RecBole's overall, model, data set and model-type files; this package's
``properties/*.yaml``; the model's own file once more, to override the file of its type; then the
user's files, ``config_dict`` and command line.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import replace
from os import PathLike
from typing import Any, Self

from recbole.config import Config as RecBoleConfig
from recbole.utils import InputType, ModelType

from recbole_llm.core import compat, model_traits
from recbole_llm.core.checks import check_settings, ignored_keys, text_keys
from recbole_llm.core.derived import check_derived
from recbole_llm.core.errors import near_matches
from recbole_llm.core.keys.evaluation import PROTOCOLS, RecBoleEvaluation
from recbole_llm.core.metrics import by_kind
from recbole_llm.core.plugins.loading import get_model
from recbole_llm.core.plugins.named import load_plugins
from recbole_llm.core.plugins.registry import PROPERTIES
from recbole_llm.core.plugins.specs import model_defaults, spec_by_name, spec_of_class
from recbole_llm.core.processes import distributed, torchrun
from recbole_llm.core.schema import (
    GRAPH,
    RECBOLE,
    files_of_model,
    given_settings,
    item_features,
    parse_command_line,
    parse_values,
)
from recbole_llm.core.secrets import take_credentials
from recbole_llm.core.settings import as_list, split_to_list
from recbole_llm.core.yaml_files import ConfigLoader, files_given, read_yaml

DEFAULT_DATASET = "ml-100k"  # ships in recbole
_PAIRWISE_LOSSES = ("BPR", "BCE", "SSM")


class Config(RecBoleConfig):  # type: ignore[misc]
    """RecBole's configuration; the arguments are RecBole's, plus ``argv``.

    Args:
        config_dict: parameters; strings are parsed as literals.
        argv: ``--key=value`` arguments; ``sys.argv`` is read only if it is passed here.
        default_model: the model if nothing else names one.
        stored: a checkpoint's settings (`core.checkpoints.stored.trusted_settings`), which the
            user's own settings override.
        stage: a stage whose keys are read besides those of the model's own stages.

    ``spec`` is the model's spec. ``secrets`` maps keys to addresses with their credentials, which
    the values of these keys lack.

    Raises:
        ValueError: unknown model, value of a wrong type, a key that asks for several processes,
            or (``strict_config``) unknown key.
    """

    def __init__(
        self,
        model: str | type | None = None,
        dataset: str | None = None,
        config_file_list: Sequence[str] | None = None,
        config_dict: Mapping[str, Any] | None = None,
        argv: Sequence[str] = (),
        default_model: str | None = None,
        stored: Mapping[str, Any] | None = None,
        stage: str | None = None,
    ) -> None:
        compat.apply()
        self._argv, self._default_model = argv, default_model
        self.stored, self._stages = dict(stored or {}), () if stage is None else (stage,)
        self.secrets: dict[str, str] = {}
        self.log_name: str | None = None  # of the run's log, until a trainer takes it
        load_plugins(config_file_list, config_dict, argv)
        super().__init__(model, dataset, config_file_list, given_settings(config_dict))
        if self["MODEL_INPUT_TYPE"] is None and self["loss_type"] in _PAIRWISE_LOSSES:
            # RecBole derives it from the losses CE and BPR only.
            self.final_config_dict["MODEL_INPUT_TYPE"] = InputType.PAIRWISE
        check_derived(self)
        if self["strict_config"] and (message := self.unknown_keys()):
            raise ValueError(f"{message} (strict_config: True)")

    def _convert_config_dict(self, config_dict: dict[str, Any]) -> dict[str, Any]:
        return parse_values(config_dict, text_keys())

    def _build_yaml_loader(self) -> type[ConfigLoader]:
        return ConfigLoader

    def _load_config_files(self, file_list: Sequence[str] | None) -> dict[str, Any]:
        merged = dict(self.stored)
        for file in files_given(file_list):
            merged.update(read_yaml(file, text_keys()))
        return merged

    def _load_cmd_line(self) -> dict[str, Any]:
        pairs = self._convert_config_dict(dict(parse_command_line(self._argv)))
        return {key: as_list(value) for key, value in pairs.items()}

    def _get_model_and_dataset(
        self, model: str | type | None, dataset: str | None
    ) -> tuple[str, type, str]:
        # A name on the command line overrides the one that a script passes.
        told, known = self.cmd_config_dict, self.external_config_dict
        model = told.get("model") or model or known.get("model") or self._default_model
        named = (told.get("dataset"), dataset, known.get("dataset"), DEFAULT_DATASET)
        dataset = next(name for name in named if name is not None)
        if not isinstance(dataset, (str, int, PathLike)):
            raise ValueError(
                f"dataset: expected the name of a data set, got {type(dataset).__name__}; "
                f"from_pandas writes data frames as a data set"
            )
        if not (dataset := str(dataset)):  # such as --dataset=$NAME without that variable
            raise ValueError("dataset: the name is empty")
        if model is None:
            misspelt = [key for key in (*told, *known) if near_matches(key, ["model"])]
            meant = f"; '{misspelt[0]}' is unknown" if misspelt else ""
            raise ValueError(
                f"no model is given: pass --model=…, or `model` in a config file{meant}"
            )
        if isinstance(model, type):
            name, spec = model.__name__, spec_of_class(model)
        else:
            name, spec, model = str(model), spec_by_name(str(model)), get_model(str(model))
        self.spec = replace(spec, stages=(*spec.stages, *self._stages))
        return name, model, dataset

    def _load_internal_config_dict(self, model: str, model_class: type, dataset: str) -> None:
        name = self.spec.stock_name
        super()._load_internal_config_dict(name, model_class, dataset)
        if name in ("GRU4RecKG", "KSR"):  # RecBole gives them the random split of general models
            of_type = read_yaml(RECBOLE / "properties/quick_start_config/sequential.yaml")
            self.internal_config_dict["eval_args"] = of_type["eval_args"]
        own: dict[str, Any] = {}
        for file in (*sorted(PROPERTIES.glob("*.yaml")), *files_of_model(name)):
            own.update(read_yaml(file))
        own.update(model_defaults(self.spec))
        self.internal_config_dict.update(own)
        known = (RECBOLE / "properties" / "dataset" / f"{dataset}.yaml").is_file()
        if not known and "load_col" not in own:
            # RecBole's default loads ids alone, with which sequential and CTR models cannot start.
            self.internal_config_dict["load_col"] = self._default_columns(model_class)

    def _default_columns(self, model_class: Any) -> dict[str, list[str]]:
        defaults = {**self.internal_config_dict, **self.external_config_dict}

        def fields(*keys: str) -> list[str]:
            return [defaults[key] for key in keys]

        user, item = "USER_ID_FIELD", "ITEM_ID_FIELD"
        columns = {"inter": fields(user, item, "RATING_FIELD", "TIME_FIELD")}
        if model_traits.learns_labels(model_class):
            columns["inter"] += fields("LABEL_FIELD")
        further = model_traits.interaction_fields(model_class, defaults)
        columns["inter"] += [field for field in further if field not in columns["inter"]]
        if model_class.type == ModelType.KNOWLEDGE:
            columns |= {file: fields(*keys) for file, keys in GRAPH.items()}
        if features := item_features(self.spec.stock_name, defaults):
            columns["item"] = [*fields(item), *features]
        return columns

    def _get_final_config_dict(self) -> dict[str, Any]:
        final: dict[str, Any] = super()._get_final_config_dict()
        if final.get("loss_type") is None:  # a plugin's model without its own settings
            final["loss_type"] = model_traits.default_loss(self.model_class)
        sequential = final["MODEL_TYPE"] == ModelType.SEQUENTIAL
        no_negatives = sequential and final.get("loss_type") == "CE"
        given = self.external_config_dict
        if no_negatives and "train_neg_sample_args" not in given:
            final["train_neg_sample_args"] = None  # RecBole's default has them, then refuses them
        if sequential and final["benchmark_filename"] and "train_level" not in given:
            final["train_level"] = "prefix"  # ready-made lists are single rows, not histories
        if sequential and final.get("item_init") and final.get("item_init_std") is None:
            final["item_init_std"] = 0.1  # chosen on validation; see `RunSettings`
        evaluation = final["eval_args"]
        if sequential and isinstance(evaluation, dict):
            # RecBole fills in the order RO, which it then refuses for these models.
            own = self.internal_config_dict["eval_args"].items()
            final["eval_args"] = {k: v for k, v in own if k in ("order", "split")} | evaluation
        if final.get("protocol") is not None:
            final["eval_args"] = self._eval_args(str(final["protocol"]), final)
        final["model"], final["dataset"] = self.model, self.dataset
        self.final_config_dict = final
        final.update(check_settings(self, self.spec))
        self.secrets = take_credentials(final)
        return final

    def _eval_args(self, protocol: str, final: Mapping[str, Any]) -> dict[str, Any]:
        given = self.external_config_dict.get("eval_args")
        if given is not None and given != self.stored.get("eval_args"):
            raise ValueError("protocol: stands for eval_args; give one of the two")
        if protocol == "random" and final["MODEL_TYPE"] == ModelType.SEQUENTIAL:
            in_order = {**PROTOCOLS["random"], "order": "TO"}
            raise ValueError(
                f"protocol: random takes items out of the middle of a history, which {self.model} "
                f"reads in order; choose leave-one-out, or split in order of time: "
                f'--eval_args="{in_order}"'
            )
        known = PROTOCOLS.get(protocol)  # the settings' check refuses unknown ones
        return dict(known) if known else final["eval_args"]

    def _set_default_parameters(self) -> None:
        # RecBole refuses GAUC among metrics of labels; see `by_kind`.
        final, asked = self.final_config_dict, RecBoleEvaluation.of(self).metrics
        ranked, of_labels = by_kind(asked)
        final["metrics"] = ranked or [m for m in of_labels if m.lower() != "gauc"]
        super()._set_default_parameters()
        final["metrics"] = asked

    def _init_device(self) -> None:
        final = self.final_config_dict
        if distributed.world_size() > 1 and final["MODEL_TYPE"] == ModelType.DECISIONTREE:
            raise ValueError(f"{self.model} grows its trees in one process: start without torchrun")
        named = final["gpu_id"] if "gpu_id" in self.external_config_dict else torchrun.VISIBLE_GPUS
        if named is not None:  # RecBole's default ignores CUDA_VISIBLE_DEVICES
            final["gpu_id"] = named
        if distributed.world_size() > 1 and final["gpu_id"] != "":  # a GPU for each process
            final["gpu_id"] = distributed.own_gpu(named)
        if not final["use_gpu"]:  # RecBole does not read use_gpu
            final["gpu_id"] = ""
        final["gpu_id"] = ",".join(map(str, split_to_list(final["gpu_id"])))
        super()._init_device()
        if distributed.world_size() > 1 and final["device"].type == "cuda":
            distributed.check_gpus(named)
        final["local_rank"] = distributed.local_rank()
        if not distributed.is_main():
            final["show_progress"] = final["log_wandb"] = False

    def with_values(self, **values: Any) -> Self:
        """A copy with other values of some keys, which are not checked."""
        copied = copy.copy(self)
        copied.final_config_dict = {**self.final_config_dict, **values}
        return copied

    def unknown_keys(self) -> str:
        """Return a message on keys that are not read, with near matches; "" if there are none.
        Covers the given keys and those in the YAML file of a plugin's model."""
        return "; ".join(ignored_keys(self))
