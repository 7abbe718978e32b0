"""What a checkpoint stores of a configuration, and what is taken of it: nothing stored is trusted.

A stored key is taken if a settings class of the model, of RecBole's parts or of this package's
declares it, or RecBole's file of the model has it, and is not marked as the machine's and
the user's own (`recbole_llm.core.marks`). All values then pass the checks of any configuration.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Mapping
from enum import Enum
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from recbole_llm.core.checks import declared_keys, key_marks
from recbole_llm.core.marks import STARTS, Mark
from recbole_llm.core.plugins.registry import ModelSpec
from recbole_llm.core.plugins.specs import spec_by_name, spec_of
from recbole_llm.core.schema import files_of_model
from recbole_llm.core.yaml_files import read_yaml

if TYPE_CHECKING:
    from recbole.config import Config as RecBoleConfig

    from recbole_llm.core.config import Config

NEVER = Mark.LOCAL | Mark.DONE  # in a checkpoint, and never taken of one
_EVALUATED = frozenset(("teacher",))  # KD_DAGFM passes it to eval()
_UNSTARTED = {"train_method": "no_pretrain", "use_pretrain": False}  # of ConvNCF, NeuMF
_NAME = re.compile(r"([a-z]{2,20}:)?[\w@.+-]{1,100}")  # XGBoost's objective is binary:logistic
# What of a stranger's template cannot run long: fields, with at most one filter without arguments.
_PLAIN_FIELD = re.compile(r"\{\{ *\w+(\.\w+|\[\d+\])? *(\| *\w+ *)?\}\}")
_HUB_NAME = re.compile(r"[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?")


def needed_again(config: Config) -> list[str]:
    """The user's settings that no checkpoint keeps and its loading needs, as arguments."""
    given = config.external_config_dict
    return [f"--{key}={given[key]}" for key in _needed(config)]


def needs(config: RecBoleConfig) -> list[str]:
    """The keys of those that vectors depend on: what a checkpoint keeps of them."""
    marks = key_marks()
    return [key for key in _needed(config) if not marks[key] & Mark.FREE]


def check_given(config: RecBoleConfig, needed: object, file: object) -> None:
    """Compare the user's settings with what `needs` gave when the model was trained.

    Raises:
        ValueError: the user leaves out some of them.
    """
    marks, given = key_marks(), config.external_config_dict
    keys = needed if isinstance(needed, list) else []  # of an older one
    if out := [k for k in keys if isinstance(k, str) and marks[k] & Mark.AGAIN and k not in given]:
        raise ValueError(
            f"checkpoint '{file}' was trained with {' and '.join(out)}, which no checkpoint keeps: "
            f"give {' '.join(f'--{key}=…' for key in out)} as in training"
        )


def _needed(config: RecBoleConfig) -> list[str]:
    marks, read = key_marks(), declared_keys(config, spec_of(config))
    given = {k: v for k, v in config.external_config_dict.items() if v is not None and k in read}
    return [k for k in given if marks[k] & Mark.AGAIN and not _believed(marks[k], given[k])]


def plain_config(config: RecBoleConfig, without: Mark = NEVER) -> dict[str, Any]:
    """A RecBole configuration as numbers, strings, lists and dicts, without keys of some marks."""
    marks = key_marks()
    return {k: _plain(v) for k, v in config.final_config_dict.items() if not marks[k] & without}


def _plain(value: object) -> Any:
    if isinstance(value, Enum):
        return value.name
    if isinstance(value, Mapping):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, (list, tuple, set)):
        return [_plain(v) for v in value]
    if isinstance(value, np.generic):
        return value.item()
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    return str(value) if isinstance(value, Path) else repr(value)


def taken(stored: Mapping[Any, Any], file: object, spec: ModelSpec | None = None) -> dict[str, Any]:
    """What is taken of a checkpoint's configuration.

    Args:
        spec: of its model, where that is not registered.

    Raises:
        ValueError: it names no model and data set, or unknown ones.
    """
    if not all(isinstance(key, str) for key in stored):
        raise ValueError(f"checkpoint '{file}' holds no configuration of a trained model")
    for key in ("model", "dataset", "data_path"):
        if not isinstance(stored.get(key), str) or not stored[key]:
            raise ValueError(f"checkpoint '{file}' does not say its {key}")
    model, dataset = stored["model"], stored["dataset"]
    if {"/", "\\", "\0"} & set(dataset) or dataset in (".", ".."):
        raise ValueError(f"checkpoint '{file}': '{dataset}' is no name of a data set")
    keys, marks = _allowed(spec or spec_by_name(model), stored), key_marks()
    settings = {k: v for k, v in stored.items() if k in keys and _believed(marks[k], v)}
    sampling = settings.get("train_neg_sample_args")
    none = isinstance(sampling, dict) and sampling.get("distribution") == "none"
    # RecBole's own Config has negatives drawn beside CE, which a model of this package's ignores.
    if none or settings.get("loss_type") == "CE":
        settings["train_neg_sample_args"] = None  # as the user wrote it, or may leave it out
    settings |= _started(settings, str(file))
    folder = Path(stored["data_path"])  # of the data set, which Config adds itself
    own = {"model": model, "dataset": dataset, "data_path": str(folder.parent)}
    return {**settings, **own}


def _started(settings: Mapping[str, Any], file: str) -> dict[str, Any]:
    """Of a model that began with the weights of another file, which no checkpoint is believed
    about, and which its own weights replace: it is built from them, or without any."""
    own = {key: file for key, (stage, later) in STARTS.items() if settings.get(stage) in later}
    return own | {key: value for key, value in _UNSTARTED.items() if key in settings}


def _allowed(spec: ModelSpec, stored: Mapping[str, Any]) -> set[str]:
    config = cast("Config", defaultdict(lambda: None, stored))
    # A plugin's sequential model reads loss_type whether or not its settings name it.
    declared = declared_keys(config, spec) | {"loss_type"}
    files = [*files_of_model(spec.stock_name), *([spec.config] if spec.config else [])]
    of_files = {key for file in files for key in read_yaml(file)}
    plain = {k for k in of_files - declared - _EVALUATED if _of_names(stored.get(k))}
    return declared | plain


def _of_names(value: object) -> bool:
    """Whether all texts in a value of an undeclared key are plain names."""
    if isinstance(value, str):
        return bool(_NAME.fullmatch(value))
    if isinstance(value, dict):
        return all(_of_names(part) for pair in value.items() for part in pair)
    return all(map(_of_names, value)) if isinstance(value, list) else True


def _believed(mark: Mark, value: object) -> bool:
    """Whether a stored value is taken of a key with a mark: none leads to files of this machine."""
    if mark & Mark.MODEL and isinstance(value, str):
        return bool(_HUB_NAME.fullmatch(value)) and ".." not in value
    if mark & Mark.TEMPLATE and isinstance(value, str):
        text, fields = _PLAIN_FIELD.subn("", value)
        plain = fields and len(value) <= 1000 and not re.search(r"\{[{%#]", text)
        return bool(plain or _NAME.fullmatch(value))
    if mark & Mark.SUFFIX:
        names = value if isinstance(value, list) else [value]
        return not any(isinstance(n, str) and _leads_away(n) for n in names)
    return not mark & NEVER


def _leads_away(name: str) -> bool:
    return len(PurePosixPath(name).parts) > 1 or len(PureWindowsPath(name).parts) > 1
