"""Digests of vectors that a checkpoint does not hold, to detect what changed since training."""

from __future__ import annotations

from logging import getLogger
from typing import Any

from recbole.data.dataset import Dataset
from torch import Tensor, from_numpy

from recbole_llm.core.errors import first_names
from recbole_llm.core.plugins.loading import get_registry
from recbole_llm.core.plugins.registry import FeatureSpec
from recbole_llm.features.tables.feature_tables import attached_features


def feature_state(dataset: Dataset) -> dict[str, Any]:
    """{feature: {source, contents int64 [n]}} of the items' features, 8 bytes per item.

    Features of the training split are left out: they depend on its interactions, and are rebuilt.
    """
    known = get_registry().specs(FeatureSpec)
    return {
        name: {"source": table.source, "contents": from_numpy(table.contents)}
        for name, table in attached_features(dataset).items()
        if table.contents is not None and name in known and known[name].when == "loaded"
    }


def check_features(dataset: Dataset, stored: object, file: object) -> set[str]:
    """Compare a data set's features with a checkpoint's, by item.

    Args:
        dataset: has the checkpoint's ids.
        stored: what `feature_state` gave when the model was trained.

    Returns:
        Fingerprints of the tables that were compared row by row; those in the checkpoint may
        differ. If only some items have other texts, a warning is logged.

    Raises:
        ValueError: the encoder or the texts of all items have changed.
    """
    present, compared = attached_features(dataset), set()
    for name, was in stored.items() if isinstance(stored, dict) else ():
        table = present.get(name)
        if table is not None and table.contents is not None:
            _compare_contents(str(name), was, table, file)
            compared.add(table.fingerprint)
    return compared


def _compare_contents(name: str, was: Any, table: Any, file: object) -> None:
    contents = was.get("contents") if isinstance(was, dict) else None
    if not isinstance(contents, Tensor) or contents.shape != table.contents.shape:
        raise ValueError(f"checkpoint '{file}' is damaged: it does not say what '{name}' was")
    changed = (contents.numpy() != table.contents).nonzero()[0].tolist()
    if was.get("source") != table.source or len(changed) == len(contents) - 1 > 1:
        what = "encoder" if was.get("source") != table.source else "text or vector of every item"
        raise ValueError(
            f"checkpoint '{file}' was trained on other vectors of '{name}': the {what} changed; "
            f"set encoder, encoder_model, encoder_adapter and item_prompt as they were, or train "
            f"again"
        )
    if changed:
        names = first_names(table.tokens[row] for row in changed)
        getLogger("recbole_llm").warning(
            f"{name}: {len(changed)} of {len(contents) - 1} items have other texts or vectors "
            f"than in training ({names}); the new ones are used"
        )
