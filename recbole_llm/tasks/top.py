"""The best of many scores. No torch is needed here."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

_GROUP = 16  # columns whose maximum is taken first
Scores = npt.NDArray[np.float32]
Ids = npt.NDArray[np.int64]


def top(scores: Scores, k: int) -> tuple[Scores, Ids]:
    """The k best of each row [B, n] with their columns, [B, k] each, the best first; of equal
    scores the lowest column, so that a shorter list is the beginning of a longer one."""
    columns = _best(scores, k)
    best = np.take_along_axis(scores, columns, 1)
    order = np.argsort(-best, axis=1, kind="stable")
    return np.take_along_axis(best, order, 1), np.take_along_axis(columns, order, 1)


def _best(scores: Scores, k: int) -> Ids:
    """Columns of the k best of each row [B, n], in their order, [B, k]."""
    among, maxima = _candidates(scores, k)
    own = np.take_along_axis(scores, among, 1)  # [B, c]
    chosen = np.argpartition(own, -k, axis=1)[:, -k:]
    columns = np.sort(np.take_along_axis(among, chosen, 1), axis=1)
    least = np.take_along_axis(own, chosen, 1).min(1, keepdims=True)  # [B, 1]
    more = ((own >= least).sum(1) > k) | ((maxima >= least).sum(1) > k)  # equal to the last one
    for row in np.flatnonzero(more & np.isfinite(least[:, 0])):
        better = np.flatnonzero(scores[row] > least[row])
        equal = np.flatnonzero(scores[row] == least[row])
        columns[row] = np.sort(np.r_[better, equal[: k - len(better)]])
    return columns


def _candidates(scores: Scores, k: int) -> tuple[Ids, Any]:
    """Columns among which the k best of each row [B, n] are, [B, c], and maxima of all groups.

    Columns are taken in groups of _GROUP. The k best lie in the k groups with the largest maxima,
    and the maxima of many groups cost a tenth of a selection among all columns.
    """
    rows, n = scores.shape
    groups = n // _GROUP  # column j is in group j % groups
    if groups < 2 * k:
        return np.broadcast_to(np.arange(n), scores.shape), scores[:, :0]
    maxima = scores[:, : groups * _GROUP].reshape(rows, _GROUP, groups).max(1)
    best = np.argpartition(maxima, -k, axis=1)[:, -k:]
    inside = (best[:, :, None] + np.arange(_GROUP) * groups).reshape(rows, -1)
    rest = np.broadcast_to(np.arange(groups * _GROUP, n), (rows, n - groups * _GROUP))
    return np.concatenate([inside, rest], 1), maxima
