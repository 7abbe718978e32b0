"""The part of a configuration that a checkpoint stores, and the part of it that is trusted.

A stored key is trusted if a settings class of the model, of RecBole or of this package declares
it, or a YAML file of the model has it, and if no mark (`recbole_llm.core.marks`) says that its
value belongs to a machine or a user. All values then pass the checks of any configuration.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Mapping
from enum import Enum
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from recbole_llm.core.checkpoints.starts import START_FILES
from recbole_llm.core.checks import declared_keys, key_marks
from recbole_llm.core.marks import Mark
from recbole_llm.core.plugins.registry import ModelSpec
from recbole_llm.core.plugins.specs import spec_by_name, spec_of
from recbole_llm.core.schema import files_of_model
from recbole_llm.core.yaml_files import read_yaml

if TYPE_CHECKING:
    from recbole.config import Config as RecBoleConfig

    from recbole_llm.core.config import Config

NEVER_STORED = Mark.LOCAL | Mark.STORED_ELSEWHERE  # nor read from a checkpoint that has them
_EVALUATED = frozenset(("teacher",))  # keys whose values RecBole's models pass to eval(): KD_DAGFM
_WITHOUT_PRETRAINING = {"train_method": "no_pretrain", "use_pretrain": False}  # ConvNCF, NeuMF
_PLAIN_NAME = re.compile(r"([a-z]{2,20}:)?[\w@.+-]{1,100}")  # XGBoost has binary:logistic
# A template field that is safe to render: at most one filter, without arguments.
_PLAIN_FIELD = re.compile(r"\{\{ *\w+(\.\w+|\[\d+\])? *(\| *\w+ *)?\}\}")
_HUB_NAME = re.compile(r"[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?")


def arguments_for_reload(config: Config) -> list[str]:
    """The arguments that loading the run's checkpoint needs and that no checkpoint stores."""
    values = config.external_config_dict
    return [f"--{key}={_as_argument(values[key])}" for key in _keys_to_ask_for(config)]


def _as_argument(value: object) -> object:
    """Join a list of texts, such as plugins, by commas; return other values unchanged."""
    if isinstance(value, list) and all(isinstance(v, str) and "," not in v for v in value):
        return ",".join(value)
    return value


def keys_required_for_vectors(config: RecBoleConfig) -> list[str]:
    """The given keys that vectors depend on; checkpoints store their names, not their values."""
    marks = key_marks()
    keys = _keys_to_ask_for(config)
    return [key for key in keys if not marks[key] & Mark.NO_EFFECT_ON_RESULTS]


def check_required_keys(config: RecBoleConfig, stored_keys: object, file: object) -> None:
    """Check that the keys in a checkpoint's `keys_required_for_vectors` are given.

    Raises:
        ValueError: some of the keys are not given.
    """
    marks, given = key_marks(), config.external_config_dict
    required = stored_keys if isinstance(stored_keys, list) else []  # older checkpoints have none
    asked = [k for k in required if isinstance(k, str) and marks[k] & Mark.ASK_ON_LOAD]
    if missing := [key for key in asked if key not in given]:
        raise ValueError(
            f"checkpoint '{file}' was trained with {' and '.join(missing)}, which no checkpoint "
            f"stores: give {' '.join(f'--{key}=…' for key in missing)} as in training"
        )


def _keys_to_ask_for(config: RecBoleConfig) -> list[str]:
    """The given keys that loading needs, and whose values would not be trusted if stored."""
    marks, read = key_marks(), declared_keys(config, spec_of(config))
    given = {k: v for k, v in config.external_config_dict.items() if v is not None and k in read}
    asked = [key for key in given if marks[key] & Mark.ASK_ON_LOAD]
    return [key for key in asked if not _is_trusted(marks[key], given[key])]


def plain_config(config: RecBoleConfig, without: Mark = NEVER_STORED) -> dict[str, Any]:
    """A RecBole configuration as plain data, without keys that have any mark in `without`."""
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


def trusted_settings(
    stored: Mapping[Any, Any], file: object, spec: ModelSpec | None = None
) -> dict[str, Any]:
    """The part of a checkpoint's configuration that is trusted.

    Args:
        spec: the model's spec, if the model is not registered.

    Raises:
        ValueError: it lacks a model, data set or folder, or names an unknown model.
    """
    model, dataset, folder = _run_identity(stored, file)
    keys, marks = _trusted_keys(spec or spec_by_name(model), stored), key_marks()
    settings = {k: v for k, v in stored.items() if k in keys and _is_trusted(marks[k], v)}
    sampling = settings.get("train_neg_sample_args")
    none = isinstance(sampling, dict) and sampling.get("distribution") == "none"
    # RecBole's Config draws negatives even with CE; this package's models ignore them.
    if none or settings.get("loss_type") == "CE":
        settings["train_neg_sample_args"] = None  # a value that a user may give
    settings |= _start_overrides(settings, str(file))
    # Config adds the data set's folder itself.
    return {**settings, "model": model, "dataset": dataset, "data_path": str(folder.parent)}


def _run_identity(stored: Mapping[Any, Any], file: object) -> tuple[str, str, Path]:
    """The model, the data set and its folder."""
    if not all(isinstance(key, str) for key in stored):
        raise ValueError(f"checkpoint '{file}' holds no configuration of a trained model")
    for key in ("model", "dataset", "data_path"):
        if not isinstance(stored.get(key), str) or not stored[key]:
            raise ValueError(f"checkpoint '{file}' does not say its {key}")
    dataset = stored["dataset"]
    if {"/", "\\", "\0"} & set(dataset) or dataset in (".", ".."):
        raise ValueError(f"checkpoint '{file}': '{dataset}' is no name of a data set")
    return stored["model"], dataset, Path(stored["data_path"])


def _start_overrides(settings: Mapping[str, Any], file: str) -> dict[str, Any]:
    """The keys that build a model which was started from another file's weights.

    A checkpoint is not trusted to name that file, and its own weights replace the file's anyway.
    So the model is built from the checkpoint itself, or without pretrained weights.
    """
    from_itself = {
        key: file for key, (stage, stages) in START_FILES.items() if settings.get(stage) in stages
    }
    return from_itself | {k: v for k, v in _WITHOUT_PRETRAINING.items() if k in settings}


def _trusted_keys(spec: ModelSpec, stored: Mapping[str, Any]) -> set[str]:
    """The declared keys, and keys of the model's files whose stored texts are plain names."""
    config = cast("Config", defaultdict(lambda: None, stored))
    # A plugin's sequential model reads loss_type whether or not its settings name it.
    declared = declared_keys(config, spec) | {"loss_type"}
    files = [*files_of_model(spec.stock_name), *([spec.config] if spec.config else [])]
    in_files = {key for file in files for key in read_yaml(file)}
    undeclared = in_files - declared - _EVALUATED
    return declared | {key for key in undeclared if _holds_plain_names(stored.get(key))}


def _holds_plain_names(value: object) -> bool:
    """Whether all texts in a value of an undeclared key are plain names."""
    if isinstance(value, str):
        return bool(_PLAIN_NAME.fullmatch(value))
    if isinstance(value, dict):
        return all(_holds_plain_names(part) for pair in value.items() for part in pair)
    return all(map(_holds_plain_names, value)) if isinstance(value, list) else True


def _is_trusted(mark: Mark, value: object) -> bool:
    """Whether a stored value of a key with these marks is trusted: it must not lead to files."""
    if mark & Mark.MODEL_NAME and isinstance(value, str):
        return bool(_HUB_NAME.fullmatch(value)) and ".." not in value
    if mark & Mark.TEMPLATE and isinstance(value, str):
        text, fields = _PLAIN_FIELD.subn("", value)
        plain = fields and len(value) <= 1000 and not re.search(r"\{[{%#]", text)
        return bool(plain or _PLAIN_NAME.fullmatch(value))
    if mark & Mark.FILE_SUFFIX:
        names = value if isinstance(value, list) else [value]
        return not any(isinstance(name, str) and _has_folders(name) for name in names)
    return not mark & NEVER_STORED


def _has_folders(name: str) -> bool:
    return len(PurePosixPath(name).parts) > 1 or len(PureWindowsPath(name).parts) > 1
