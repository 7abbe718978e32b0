"""Rows by name to rows by RecBole's internal id, with a report of what was missing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from logging import getLogger

import numpy as np
import numpy.typing as npt

from recbole_llm.core.digest import digest, short_digests
from recbole_llm.core.errors import first_names
from recbole_llm.features.settings import Policy
from recbole_llm.features.table import EmbeddingTable, Matrix, TableError


@dataclass(frozen=True)
class Coverage:
    """Which of the wanted tokens have a usable vector.

    Args:
        kind: ``item`` or ``user``.
        total: wanted tokens, padding left out.
        problems: {what: names}, what being ``missing``, ``non-finite`` or ``all-zero``.
        extra: number of rows that nobody wanted.
    """

    kind: str
    total: int
    problems: dict[str, list[str]] = field(default_factory=dict)
    extra: int = 0

    @property
    def uncovered(self) -> int:
        """Tokens without a usable vector."""
        return sum(len(names) for names in self.problems.values())

    def __str__(self) -> str:
        parts = [f"{self.kind} embeddings cover {self.total - self.uncovered} of {self.total}"]
        parts += [
            f"{len(names)} {what} ({first_names(names)})" for what, names in self.problems.items()
        ]
        if self.extra:
            parts.append(f"{self.extra} rows of other {self.kind}s left out")
        return "; ".join(parts)


def align(
    table: EmbeddingTable,
    tokens: Sequence[str],
    policy: Policy = "error",
    kind: str = "item",
    policy_key: str = "missing_embedding",
) -> tuple[EmbeddingTable, Coverage]:
    """Bring a table into the order of RecBole's ids.

    A row is usable if it is there, finite and not all zeros.

    Args:
        table: rows in any order.
        tokens: wanted order; the first is RecBole's ``[PAD]``, whose row is zero.
        policy: what an unusable row becomes: ``error``, ``zeros``, or the ``mean`` of the others.
        kind: ``item`` or ``user``, for messages.
        policy_key: config key of the policy, for messages.

    Returns:
        The aligned table [len(tokens), D] and its coverage.

    Raises:
        TableError: unusable rows under the policy ``error``, or no usable row at all.
    """
    wanted = [str(token) for token in tokens]
    rows = _rows(table, wanted)  # [n], -1: none
    matrix = np.zeros((len(wanted), table.dimension), np.float32)
    matrix[rows >= 0] = table.matrix[rows[rows >= 0]]
    bad = _problems(matrix, rows)
    problems = {what: [wanted[i] for i in mask.nonzero()[0]] for what, mask in bad.items()}
    problems = {what: names for what, names in problems.items() if names}
    extra = len(table) - int((rows >= 0).sum())
    coverage = Coverage(kind, len(wanted) - 1, problems, extra)
    _report(coverage, policy, policy_key)
    unusable = np.any(list(bad.values()), axis=0)  # [n]
    usable = ~unusable
    usable[0] = False
    matrix[unusable] = matrix[usable].mean(axis=0) if policy == "mean" else 0
    fingerprint = digest(table.fingerprint, policy if coverage.uncovered else None, wanted)
    return EmbeddingTable(
        matrix, wanted, fingerprint, table.source, _contents(table, rows)
    ), coverage


def _contents(table: EmbeddingTable, rows: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """What each row was made of, int64 [n]; 0 of a row that is not there."""
    known = table.contents
    if known is None:
        known = short_digests(np.ascontiguousarray(row).tobytes() for row in table.matrix)
    there = rows >= 0
    contents = np.zeros(len(rows), np.int64)
    contents[there] = known[rows[there]]
    return contents


def _rows(table: EmbeddingTable, wanted: Sequence[str]) -> npt.NDArray[np.int64]:
    index = {token: row for row, token in enumerate(table.tokens)}
    rows = np.array([index.get(token, -1) for token in wanted], np.int64)
    rows[0] = -1  # padding, whatever the table holds for it
    return rows


def _problems(matrix: Matrix, rows: npt.NDArray[np.int64]) -> dict[str, npt.NDArray[np.bool_]]:
    """Masks [n] of unusable rows; a row is in one of them at most, padding in none."""
    missing = rows < 0
    missing[0] = False
    non_finite = ~np.all(np.isfinite(matrix), axis=1)
    zero = ~np.any(matrix, axis=1) & ~missing
    zero[0] = False
    return {"missing": missing, "non-finite": non_finite, "all-zero": zero}


def _report(coverage: Coverage, policy: Policy, key: str) -> None:
    if coverage.total and coverage.uncovered == coverage.total:
        raise TableError(f"{coverage}; not one {coverage.kind} has a vector: are the tokens right?")
    if not coverage.uncovered:
        getLogger("recbole_llm").info(str(coverage))
        return
    if policy == "error":
        raise TableError(
            f"{coverage}; complete the texts or vectors, or set {key} to zeros or mean"
        )
    getLogger("recbole_llm").warning(f"{coverage}; {key}: {policy}")
