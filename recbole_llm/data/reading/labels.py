"""The labels of interactions, which click models learn: each is 0 or 1, and none is missing."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from logging import getLogger
from pathlib import Path

from pandas import DataFrame

from recbole_llm.core.config import Config
from recbole_llm.core.model_traits import learns_labels


def label_fields(config: Config) -> list[str]:
    """The fields that labels are made from; none if labels come only from sampled negatives."""
    if not learns_labels(config.model_class):
        return []
    rated = "labeled" in config["eval_args"]["mode"].values()
    plain = config["train_neg_sample_args"]["distribution"] == "none"
    return list(config["threshold"] or [config["LABEL_FIELD"]]) if rated or plain else []


def check_threshold(config: Config, file: Path, types: Mapping[str, str]) -> None:
    """Refuse a threshold of a field that is no float column of the file.

    Raises:
        ValueError: such a field.
    """
    for field in config["threshold"] or ():
        if types.get(field) != "float":
            floats = ", ".join(name for name, kind in types.items() if kind == "float")
            raise ValueError(
                f"threshold: '{field}' is no float column of '{file}', and labels are made from "
                f"float columns; these are {floats or 'none'}"
            )


def check_labels_given(fields: Iterable[str], interactions: DataFrame) -> None:
    """Refuse missing labels, which RecBole would fill with a mean that includes held-out rows.

    Raises:
        ValueError: a field that labels are made from has missing values.
    """
    for field in (field for field in fields if field in interactions):
        missing = int(interactions[field].isna().sum())
        if missing:
            raise ValueError(
                f"'{field}': {missing:,} of {len(interactions):,} interactions have no value to "
                f"make a label from; leave them out with "
                f"--val_interval=\"{{'{field}': '(-inf,inf)'}}\""
            )


def check_labels(config: Config, interactions: DataFrame) -> None:
    """Refuse labels other than 0 and 1, and warn of label 0 if training or evaluation takes all
    rows for positives.

    Raises:
        ValueError: a label is neither 0 nor 1.
    """
    field = config["LABEL_FIELD"]
    if not label_fields(config) or field not in interactions:  # reading them will raise
        return
    labels = interactions[field]
    others = labels[~labels.isin((0, 1))]
    if len(others):
        raise ValueError(
            f"'{field}': has the value {others.iloc[0]:g}, but labels are 0 or 1; make them from "
            f"ratings, with --threshold=\"{{'{field}': {labels.max():g}}}\""
        )
    if zeros := int((labels == 0).sum()):
        _warn_of_zeros(config, f"{zeros:,} of {len(interactions):,} interactions have label 0")


def _warn_of_zeros(config: Config, zeros: str) -> None:
    logger = getLogger("recbole_llm")
    if config["train_neg_sample_args"]["distribution"] != "none":
        logger.warning(
            f"train_neg_sample_args: training takes all rows for positives, though {zeros}; set "
            f"--train_neg_sample_args=None to learn labels"
        )
    if modes := set(config["eval_args"]["mode"].values()) - {"labeled"}:
        logger.warning(
            f"eval_args: mode {min(modes)} takes all held-out rows for positives, though {zeros}; "
            f"mode labeled reads labels, and val_interval can leave such interactions out"
        )
