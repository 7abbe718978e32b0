"""The positives of a batch and their places in the ranking, found by counting.

A positive's place is the number of items with a higher score, so nothing need be sorted. Legend:
B rows, n items, P positives, k length of the list.
"""

from __future__ import annotations

import copy
from collections.abc import Callable

import torch
from torch import Tensor

from recbole_llm.evaluation.ties import nan_last

CHUNK = 2**22  # elements of the largest temporary
FEW = 4  # positives a row up to which counting for all is cheaper than a top-k first


class Positives:
    """The distinct positives of a batch, by row.

    Args:
        shape: B and n.
        rows, items: of the positives, in any order.

    Attributes:
        n_items: n.
        rows, items: int64 [P], sorted.
        above: number of the row's items with a higher score, int64 [P]; n until `rank`.
        same: number of the row's items with the same score, itself included, int64 [P]; 1 of a
            positive beyond the first k.
        counts: positives of each row, int64 [B].
    """

    def __init__(self, shape: torch.Size, rows: Tensor, items: Tensor) -> None:
        n_rows, self.n_items = shape
        n = self.n_items
        keys = torch.unique(rows * n + items)
        self.rows, self.items = keys // n, keys % n
        self.counts = torch.bincount(self.rows, minlength=n_rows)
        self.above = torch.full_like(self.rows, n)
        self.same = torch.ones_like(self.rows)

    def rank(self, scores: Tensor, k: int | None) -> None:
        """Find the places of all positives, or of those within the first k at least."""
        own = scores[self.rows, self.items]  # [P]
        chosen = torch.arange(len(self.rows), device=scores.device)
        if k is not None and len(self.rows) > FEW * len(scores):
            first = torch.topk(scores, k, dim=-1).values
            if first.isnan().any():  # topk puts it first, a rank last
                first = torch.topk(nan_last(scores), k, dim=-1).values
            least = first[:, -1]
            chosen = (own >= least[self.rows]).nonzero().view(-1)
        for part in chunks(chosen, scores.shape[1]):
            self.above[part] = above = self._count(torch.gt, scores, own, part)
            near = part if k is None else part[above < k]
            self.same[near] = self._count(torch.ge, scores, own, near) - self.above[near]

    def _count(
        self, compare: Callable[..., Tensor], scores: Tensor, own: Tensor, which: Tensor
    ) -> Tensor:
        """How many of a row's items compare so with its positive, for some positives."""
        if not len(which):
            return which
        return count(compare, _blocks(scores, self.rows[which]), own[which])

    def of_items(self, members: Tensor) -> Positives:
        """The positives whose item is in a group, members bool [n]."""
        part, chosen = copy.copy(self), members.to(self.items.device)[self.items]
        for name in ("rows", "items", "above", "same"):
            setattr(part, name, getattr(self, name)[chosen])
        part.counts = torch.bincount(part.rows, minlength=len(self.counts))
        return part

    def tied(self, k: int) -> Tensor:
        """The rows with a positive that ties within the first k places, int64 [T], sorted."""
        return torch.unique(self.rows[(self.above < k) & (self.same > 1)])

    def hits(self, k: int, rows: Tensor, lists: Tensor) -> Tensor:
        """Which of each row's first k places hold positives.

        Args:
            rows: the rows that are read off their list, `tied` ones at least, int64 [T].
            lists: the items of these rows' first k places, int64 [T, k].

        Returns:
            bool [B, k].
        """
        hits = torch.zeros(len(self.counts), k, dtype=torch.bool, device=self.rows.device)
        alone = (self.above < k) & (self.same == 1)
        hits[self.rows[alone], self.above[alone]] = True
        own = self.rows * self.n_items + self.items
        hits[rows] = torch.isin(rows[:, None] * self.n_items + lists, own)
        return hits


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
