"""Whether what a plugin's feature built can be read by RecBole's ids."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from recbole.data.dataset import Dataset

from recbole_llm.core.errors import first_names
from recbole_llm.core.plugins import get_registry
from recbole_llm.core.tokens import PADDING
from recbole_llm.features.table import EmbeddingTable, Matrix


def check_built(name: str, table: object, dataset: Dataset) -> None:
    """Refuse a plugin's table that a model would train on with wrong or no vectors.

    Raises:
        ValueError: no table; a first row that is not the padding's zeros; numbers that are none;
            rows of the items or users that lack some, or are in another order.
    """
    origin = get_registry().origins.get(f"feature {name}", "")
    if origin.startswith("recbole_llm."):
        return
    what = f"feature '{name}' of plugin '{origin}'"
    if not isinstance(table, EmbeddingTable):
        raise ValueError(  # noqa: TRY004
            f"{what} returned a {type(table).__name__}; return "
            f"EmbeddingTable(matrix, tokens, fingerprint)"
        )
    tokens = [str(token) for token in table.tokens]
    if not tokens or tokens[0] != PADDING:
        raise ValueError(
            f"{what}: row 0 is the padding's, so the first token is to be '{PADDING}', not "
            f"{first_names(tokens[:1]) or 'missing'}"
        )
    _check_numbers(what, table.matrix)
    _check_order(what, tokens, dataset)


def _check_numbers(what: str, matrix: Matrix) -> None:
    if matrix[0].any():
        raise ValueError(f"{what}: row 0 is the padding's and is to be zero")
    if matrix.size and not np.isfinite([matrix.min(), matrix.max()]).all():
        raise ValueError(f"{what} has values that are no finite numbers")


def _check_order(what: str, tokens: Sequence[str], dataset: Dataset) -> None:
    known = {field: list(map(str, own)) for field, own in dataset.field2id_token.items()}
    if tokens in known.values():
        return
    found = set(tokens)
    for field in (dataset.iid_field, dataset.uid_field):
        own = known.get(field, [])
        lacking = [token for token in own if token not in found]
        if len(tokens) + len(lacking) != len(own) or len(lacking) > len(own) / 2:
            continue  # rows of something else, which may have names in common with these
        fault = (
            f"lacks rows ({first_names(lacking)})" if lacking else "has its rows in another order"
        )
        raise ValueError(
            f"{what} {fault}: give a row for each of dataset.field2id_token['{field}'], in that "
            f"order, zeros where there is no vector"
        )
