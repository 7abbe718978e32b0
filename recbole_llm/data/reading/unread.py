"""Warnings of columns that were asked for, but that are in no file or have no effect."""

from __future__ import annotations

from collections.abc import Iterator
from logging import getLogger
from pathlib import Path

from recbole.data.dataset import Dataset
from recbole.utils import FeatureType, ModelType

from recbole_llm.core import model_traits
from recbole_llm.core.config import Config
from recbole_llm.core.errors import near_hint
from recbole_llm.core.like_defaults import is_of_recbole
from recbole_llm.core.plugins.specs import spec_of
from recbole_llm.data.reading.files import file_format, read_types

_NUMBERS = (FeatureType.FLOAT, FeatureType.FLOAT_SEQ)


def warn_of_unread_columns(config: Config, dataset: Dataset) -> None:
    """Warn of columns that ``load_col`` names and the model leaves out without a word: those of
    interactions, if it reads histories, and numbers that ``numerical_features`` does not name."""
    kind = config["MODEL_TYPE"]
    learns_labels = model_traits.learns_labels(config.model_class)
    if not (learns_labels and _is_known(config)) or kind == ModelType.DECISIONTREE:
        return
    files = {"inter"} if kind == ModelType.SEQUENTIAL else set()
    if spec_of(config).stock_name == "DIN":  # alone of all, it reads no fields of users
        files.add("user")
    asked = [(f, name) for f, name in _asked_for(config) if name in dataset.field2type]
    unread = [name for file, name in asked if file in files]
    others = [name for file, name in asked if file not in files]
    numbers = [name for name in others if dataset.field2type[name] in _NUMBERS]
    logger = getLogger("recbole_llm")
    if unread:
        logger.warning(
            f"load_col: {config['model']} does not read {', '.join(unread)}; context-aware models "
            f"(DeepFM, DCN, …) do"
        )
    if unlisted := [name for name in numbers if name not in config["numerical_features"]]:
        logger.warning(
            f"load_col: {config['model']} does not read {', '.join(unlisted)}; to read numbers, "
            f'set --numerical_features="{[*config["numerical_features"], *unlisted]}" '
            f"(docs/own-data.md says how to scale them)"
        )


def warn_of_missing_columns(config: Config, dataset: Dataset) -> None:
    """Warn of columns that ``load_col`` names and no file has, which RecBole passes over."""
    for kind, name in _asked_for(config):
        if name in dataset.field2type:
            continue
        part = f".{config['benchmark_filename'][0]}" if config["benchmark_filename"] else ""
        part = part if kind == "inter" else ""
        file = Path(dataset.dataset_path) / f"{dataset.dataset_name}{part}.{kind}"
        columns = read_types(file, *file_format(config)) if file.is_file() else {}
        there = f"its columns are {', '.join(columns)}" if columns else "there is no such file"
        getLogger("recbole_llm").warning(
            f"load_col: '{file}' has no column '{name}'; {near_hint(name, columns)}{there}"
        )


def _is_known(config: Config) -> bool:
    """Whether the model is not a plugin's, which may read any column."""
    return is_of_recbole(config) or config.model_class.__module__.startswith("recbole_llm.")


def _asked_for(config: Config) -> Iterator[tuple[str, str]]:
    """The file and name of each column that ``load_col`` was set to, except those with a role."""
    roles = ("USER_ID", "ITEM_ID", "TIME", "LABEL", "RATING", "ITEM_LIST_LENGTH")
    used = {config[f"{role}_FIELD"] for role in roles}
    for key in ("threshold", "val_interval", "alias_of_user_id", "alias_of_item_id"):
        used.update(config[key] or ())
    for names in (config["unused_col"] or {}).values():
        used.update(names)
    used.update(model_traits.interaction_fields(config.model_class, config))
    given = config["load_col"] if "load_col" in config.external_config_dict else None
    for file, names in (given or {}).items():
        if file in ("inter", "user", "item") and names != "*":
            yield from ((file, name) for name in names if name not in used)
