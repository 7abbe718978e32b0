"""Building a feature's table, and checking that a plugin's table follows RecBole's ids."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from recbole.config import Config
from recbole.data.dataset import Dataset

from recbole_llm.core.checkpoints.tokens import PADDING
from recbole_llm.core.errors import check_takes, first_names
from recbole_llm.core.plugins.loading import get_registry
from recbole_llm.core.plugins.registry import FeatureSpec, resolve
from recbole_llm.features.tables.table import EmbeddingTable


def build_feature(spec: FeatureSpec, config: Config, dataset: Dataset) -> EmbeddingTable:
    """Build a feature's table. A plugin's is checked, since a model would train on any numbers.

    Raises:
        ValueError: the builder failed; or a plugin's result is no table, its first row is not the
            padding's zeros, a number is not finite, or its rows are not `FeatureSpec.rows`.
    """
    plugin = get_registry().foreign_plugin_of(FeatureSpec, spec.name)
    what = f"feature '{spec.name}'" + (f" of plugin '{plugin}'" if plugin else "")
    build = resolve(spec.build, what)
    if plugin is None:
        return build(config, dataset)
    check_takes(f"{what}: build", build, "config", "dataset")
    try:
        table = build(config, dataset)
    except ValueError as error:
        raise ValueError(f"{what}: {error}") from error
    _check_table(what, spec.rows, table, dataset)
    return table


def _check_table(what: str, of: str, table: Any, dataset: Dataset) -> None:
    if not isinstance(table, EmbeddingTable):
        raise ValueError(  # noqa: TRY004
            f"{what} returned a {type(table).__name__}; return "
            f"EmbeddingTable(matrix, tokens, fingerprint)"
        )
    tokens = [str(token) for token in table.tokens]
    if not tokens or tokens[0] != PADDING:
        raise ValueError(
            f"{what}: row 0 is for padding, so the first token must be '{PADDING}', not "
            f"{first_names(tokens[:1]) or 'missing'}"
        )
    if table.matrix[0].any():
        raise ValueError(f"{what}: row 0 is for padding and must be zero")
    if table.matrix.size and not np.isfinite([table.matrix.min(), table.matrix.max()]).all():
        raise ValueError(f"{what} has values that are not finite numbers")
    if of != "other":
        _check_rows(what, of, tokens, dataset)


def _check_rows(what: str, of: str, tokens: Sequence[str], dataset: Dataset) -> None:
    field = dataset.iid_field if of == "items" else dataset.uid_field
    expected = list(map(str, dataset.field2id_token[field]))
    if tokens == expected:
        return
    known, found = set(expected), set(tokens)
    lacking = [token for token in expected if token not in found]
    further = [token for token in tokens if token not in known]
    faults = [f"lacks {of} ({first_names(lacking)})"] if lacking else []
    faults += [f"has rows of unknown {of} ({first_names(further)})"] if further else []
    raise ValueError(
        f"{what} {' and '.join(faults) or f'has its {of} in another order'}: give a row for each "
        f"of dataset.field2id_token['{field}'], in that order, zeros where there is no vector; if "
        f"the rows are something else, declare FeatureSpec(…, rows='other')"
    )
