"""The k best of many scores. No torch is needed here."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from recbole_llm.core.arrays import IntArray

_GROUP_SIZE = 16  # columns whose maximum is taken first
Scores = npt.NDArray[np.float32]


def top_k(scores: Scores, k: int) -> tuple[Scores, IntArray]:
    """The k best of each row [B, n] with their columns, [B, k] each, best first. Ties go to the
    lowest column, so that a shorter list is the beginning of a longer one."""
    columns = _select_top_k(scores, k)
    best = np.take_along_axis(scores, columns, 1)
    order = np.argsort(-best, axis=1, kind="stable")
    return np.take_along_axis(best, order, 1), np.take_along_axis(columns, order, 1)


def _select_top_k(scores: Scores, k: int) -> IntArray:
    """Columns of the k best of each row [B, n], in ascending order, [B, k]."""
    pool, maxima = _narrow_down(scores, k)
    pool_scores = np.take_along_axis(scores, pool, 1)  # [B, c]
    chosen = np.argpartition(pool_scores, -k, axis=1)[:, -k:]
    columns = np.sort(np.take_along_axis(pool, chosen, 1), axis=1)
    least = np.take_along_axis(pool_scores, chosen, 1).min(1, keepdims=True)  # [B, 1]
    has_ties = ((pool_scores >= least).sum(1) > k) | ((maxima >= least).sum(1) > k)  # with the last
    for row in np.flatnonzero(has_ties & np.isfinite(least[:, 0])):
        better = np.flatnonzero(scores[row] > least[row])
        equal = np.flatnonzero(scores[row] == least[row])
        columns[row] = np.sort(np.r_[better, equal[: k - len(better)]])
    return columns


def _narrow_down(scores: Scores, k: int) -> tuple[IntArray, Any]:
    """Columns among which the k best of each row [B, n] are, [B, c], and maxima of all groups.

    Columns are taken in groups of _GROUP_SIZE. The k best lie in the k groups with the largest
    maxima, and the maxima of many groups cost a tenth of a selection among all columns.
    """
    rows, n = scores.shape
    groups = n // _GROUP_SIZE  # column j is in group j % groups
    if groups < 2 * k:
        return np.broadcast_to(np.arange(n), scores.shape), scores[:, :0]
    maxima = scores[:, : groups * _GROUP_SIZE].reshape(rows, _GROUP_SIZE, groups).max(1)
    best = np.argpartition(maxima, -k, axis=1)[:, -k:]
    in_groups = (best[:, :, None] + np.arange(_GROUP_SIZE) * groups).reshape(rows, -1)
    outside = np.arange(groups * _GROUP_SIZE, n)  # of any group
    outside = np.broadcast_to(outside, (rows, len(outside)))
    return np.concatenate([in_groups, outside], 1), maxima
