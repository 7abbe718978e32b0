"""From rows by name to rows by RecBole's internal id, with a report of missing rows."""

from __future__ import annotations

from collections.abc import Sequence
from logging import getLogger

import numpy as np
import numpy.typing as npt
from pandas import Index

from recbole_llm.core.digest import digest, short_digests
from recbole_llm.core.errors import first_names
from recbole_llm.core.lines import plural
from recbole_llm.features.settings import Policy
from recbole_llm.features.tables.table import EmbeddingTable, Matrix, TableError, has_vector


def align(
    table: EmbeddingTable,
    tokens: Sequence[str],
    policy: Policy = "error",
    kind: str = "item",
    policy_key: str = "missing_embedding",
) -> EmbeddingTable:
    """Bring a table into the order of RecBole's ids, and log which of them have a vector.

    A row is usable if it exists, is finite and is not all zeros.

    Args:
        table: rows in any order.
        tokens: wanted order; the first is RecBole's ``[PAD]``, whose row is zero.
        policy: what an unusable row becomes: ``error``, ``zeros``, or the ``mean`` of the others.

    Returns:
        The aligned table [len(tokens), D].

    Raises:
        TableError: unusable rows under the policy ``error``, or no usable row at all.
    """
    wanted = [str(token) for token in tokens]
    index = Index(table.tokens, dtype=object)
    rows = index.get_indexer(Index(wanted, dtype=object))  # int64 [n], -1: none
    rows[0] = -1  # padding, whatever the table holds for it
    present = rows >= 0
    matrix = np.zeros((len(wanted), table.dimension), np.float32)
    matrix[present] = table.matrix[rows[present]]
    faults = _find_unusable(matrix, rows)
    unusable = np.any(list(faults.values()), axis=0)  # [n]
    extra = len(table) - int(present.sum())
    _report_coverage(kind, wanted, faults, extra, policy, policy_key)
    usable = ~unusable
    usable[0] = False
    matrix[unusable] = matrix[usable].mean(axis=0) if policy == "mean" else 0
    fingerprint = digest(table.fingerprint, policy if unusable.any() else None, wanted)
    row_contents = table.contents
    if row_contents is None:
        row_contents = short_digests(np.ascontiguousarray(row).tobytes() for row in table.matrix)
    contents = np.zeros(len(rows), np.int64)  # 0 for a missing row
    contents[present] = row_contents[rows[present]]
    return EmbeddingTable(matrix, wanted, fingerprint, table.source, contents)


def _find_unusable(matrix: Matrix, rows: npt.NDArray[np.int64]) -> dict[str, npt.NDArray[np.bool_]]:
    """Masks [n] of unusable rows, by fault; a row is in at most one of them, padding in none."""
    missing = rows < 0
    missing[0] = False
    non_finite = ~np.all(np.isfinite(matrix), axis=1)
    zero = ~has_vector(matrix) & ~missing
    zero[0] = False
    return {"missing": missing, "non-finite": non_finite, "all-zero": zero}


def _report_coverage(
    kind: str,
    wanted: Sequence[str],
    faults: dict[str, npt.NDArray[np.bool_]],
    extra: int,
    policy: Policy,
    key: str,
) -> None:
    total, uncovered = len(wanted) - 1, sum(int(mask.sum()) for mask in faults.values())
    parts = [f"{kind} embeddings cover {total - uncovered} of {total}"]
    for what, mask in faults.items():
        if mask.any():
            names = first_names(wanted[i] for i in mask.nonzero()[0].tolist())
            parts.append(f"{int(mask.sum())} {what} ({names})")
    if extra:
        parts.append(f"{plural(extra, 'row')} of other {kind}s left out")
    message = "; ".join(parts)
    if total and uncovered == total:
        raise TableError(f"{message}; not one {kind} has a vector: are the tokens right?")
    if uncovered and policy == "error":
        raise TableError(f"{message}; complete the texts or vectors, or set {key} to zeros or mean")
    if uncovered:
        getLogger("recbole_llm").warning(f"{message}; {key}: {policy}")
    else:
        getLogger("recbole_llm").info(message)
