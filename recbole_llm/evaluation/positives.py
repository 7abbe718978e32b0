"""The positives of a batch and their places in the ranking, found by counting.

A positive's place is the number of items with a higher score, so nothing need be sorted. Legend:
B rows, n items, P positives, k length of the list.
"""

from __future__ import annotations

import copy
from collections.abc import Callable

import torch
from torch import Tensor

from recbole_llm.evaluation.ties import draw_hits

CHUNK = 2**22  # elements of the largest temporary
FEW = 4  # positives a row up to which counting for all is cheaper than a top-k first


class Positives:
    """The distinct positives of a batch, by row.

    Attributes:
        rows, items: int64 [P], sorted.
        scores: [P].
        above: number of the row's items with a higher score, int64 [P], after `rank`.
        same: number of the row's items with the same score, itself included, int64 [P]; 1 of a
            positive beyond the first k.
        counts: positives of each row, int64 [B].
    """

    def __init__(self, scores: Tensor, rows: Tensor, items: Tensor) -> None:
        n = scores.shape[1]
        keys = torch.unique(rows.to(scores.device) * n + items.to(scores.device))
        self.rows, self.items = keys // n, keys % n
        self.counts = torch.bincount(self.rows, minlength=len(scores))
        self.scores = scores[self.rows, self.items]
        self.above = torch.full_like(self.rows, n)
        self.same = torch.ones_like(self.rows)

    def rank(self, scores: Tensor, k: int | None) -> None:
        """Find the places of all positives, or of those within the first k at least."""
        chosen = torch.arange(len(self.rows), device=scores.device)
        if k is not None and len(self.rows) > FEW * len(scores):
            least = torch.topk(scores, k, dim=-1).values[:, -1]
            chosen = (self.scores >= least[self.rows]).nonzero().view(-1)
        for part in chunks(chosen, scores.shape[1]):
            self.above[part] = above = self._count(torch.gt, scores, part)
            near = part if k is None else part[above < k]
            self.same[near] = self._count(torch.ge, scores, near) - self.above[near]

    def _count(self, compare: Callable[..., Tensor], scores: Tensor, which: Tensor) -> Tensor:
        """How many of a row's items compare so with its positive, for some positives."""
        if not len(which):
            return which
        return count(compare, _blocks(scores, self.rows[which]), self.scores[which])

    def of_items(self, members: Tensor) -> Positives:
        """The positives whose item is in a group, members bool [n]."""
        part, chosen = copy.copy(self), members.to(self.items.device)[self.items]
        for name in ("rows", "items", "scores", "above", "same"):
            setattr(part, name, getattr(self, name)[chosen])
        part.counts = torch.bincount(part.rows, minlength=len(self.counts))
        return part

    def hits(self, k: int, draws: Tensor) -> Tensor:
        """Which of each row's first k places hold positives, ties in an order drawn by row.

        Args:
            k: length of the list.
            draws: uniform in [0, 1), float64 [B].

        Returns:
            bool [B, k].
        """
        hits = torch.zeros(len(self.counts), k, dtype=torch.bool, device=self.rows.device)
        alone = (self.above < k) & (self.same == 1)
        hits[self.rows[alone], self.above[alone]] = True
        tied = (self.above < k) & (self.same > 1)
        if tied.any():
            rows, hits_of_ties = self._tied_hits(tied, k, draws)
            hits[rows] |= hits_of_ties
        return hits

    def _tied_hits(self, tied: Tensor, k: int, draws: Tensor) -> tuple[Tensor, Tensor]:
        """Rows with ties that hold positives, int64 [T], and the ties' hits, bool [T, k]."""
        # A tie, by row and first place; how many items and how many positives it has.
        key = self.rows[tied] * k + self.above[tied]
        ties, tie_of, positives = torch.unique(key, return_inverse=True, return_counts=True)
        size = torch.empty_like(ties).index_copy_(0, tie_of, self.same[tied])
        rows, row = torch.unique(ties // k, return_inverse=True)
        first = ties % k
        place = torch.arange(k, device=ties.device)
        # Values that are the same along a tie, and no positives, sure misses, outside of ties.
        values = place.repeat(len(rows), 1)
        sizes, wanted = torch.ones_like(values), torch.zeros_like(values)
        for step in range(k):
            at = (step < size) & (first + step < k)
            index = row[at], first[at] + step
            values[index], sizes[index], wanted[index] = first[at], size[at], positives[at]
        return rows, draw_hits(values, sizes, wanted, draws[rows])


def mean_ranks(scores: Tensor, positives: Positives) -> Tensor:
    """RecBole's ``rec.meanrank``, float32 [B, 3].

    Sum of the average ranks of a row's positives, number of items above the row's lowest score
    (that of masked items), number of positives.
    """
    sums = torch.zeros(len(scores), dtype=torch.float64, device=scores.device)
    sums.index_add_(0, positives.rows, positives.above + (positives.same.double() + 1) / 2)
    parts = chunks(scores, scores.shape[1])
    ranked = torch.cat([count(torch.gt, part, part.amin(1)) for part in parts])
    return torch.stack((sums.float(), ranked.float(), positives.counts.float()), dim=1)


def chunks(rows: Tensor, width: int) -> tuple[Tensor, ...]:
    """Parts of rows whose blocks of [part, width] elements stay small."""
    return torch.split(rows, max(CHUNK // width, 1))


def count(compare: Callable[..., Tensor], block: Tensor, values: Tensor) -> Tensor:
    """How many of each row of [B, n] compare so with its value of [B]; int64 [B]."""
    # Summing float32 is three times as fast as summing bool, and exact below 2^24 items.
    ones = torch.empty_like(block, dtype=torch.float32)
    return compare(block, values[:, None], out=ones).sum(1).long()


def _blocks(scores: Tensor, rows: Tensor) -> Tensor:
    """scores[rows], without a copy where the rows follow each other."""
    first, last = int(rows[0]), int(rows[-1])
    if last - first + 1 == len(rows) and bool((rows.diff() == 1).all()):
        return scores[first : last + 1]
    return scores[rows]
