"""The positives of a batch and their places in the ranking, found by counting.

A positive's place is the number of items with a higher score, so nothing need be sorted. Legend:
B rows, n items, P positives, k length of the list.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Self

import torch
from torch import Tensor

from recbole_llm.evaluation.ties import put_nan_last

CHUNK = 2**22  # elements of the largest temporary
FEW = 4  # positives per row, up to which counting for all is cheaper than a top-k first


@dataclass(frozen=True)
class Positives:
    """The distinct positives of a batch, sorted by row and item."""

    n_items: int  # n
    rows: Tensor  # int64 [P]
    items: Tensor  # int64 [P]
    counts: Tensor  # positives of each row, int64 [B]

    @classmethod
    def of(cls, shape: torch.Size, rows: Tensor, items: Tensor) -> Positives:
        """Sort positives, and drop duplicates.

        Args:
            shape: B and n.
            rows, items: row and item of each positive, in any order.
        """
        n_rows, n_items = shape
        keys = torch.unique(rows * n_items + items)
        rows, items = keys // n_items, keys % n_items
        return cls(n_items, rows, items, torch.bincount(rows, minlength=n_rows))

    def rank(self, scores: Tensor, k: int | None) -> RankedPositives:
        """Find the places of all positives; given k, at least of those within the first k."""
        own = scores[self.rows, self.items]  # [P]
        above, same = torch.full_like(self.rows, self.n_items), torch.ones_like(self.rows)
        chosen = torch.arange(len(self.rows), device=scores.device)
        if k is not None and len(self.rows) > FEW * len(scores):
            first = torch.topk(scores, k, dim=-1).values
            if first.isnan().any():  # topk puts NaN first, ranks put it last
                first = torch.topk(put_nan_last(scores), k, dim=-1).values
            chosen = (own >= first[:, -1][self.rows]).nonzero().view(-1)
        for part in split_rows(chosen, scores.shape[1]):
            above[part] = higher = self._count(torch.gt, scores, own, part)
            near = part if k is None else part[higher < k]
            same[near] = self._count(torch.ge, scores, own, near) - above[near]
        return RankedPositives(self.n_items, self.rows, self.items, self.counts, above, same)

    def _count(
        self, compare: Callable[..., Tensor], scores: Tensor, own: Tensor, which: Tensor
    ) -> Tensor:
        """For some positives, the number of row items with compare(score, positive's score)."""
        if not len(which):
            return which
        return count_per_row(compare, _select_rows(scores, self.rows[which]), own[which])

    def select(self, mask: Tensor) -> Self:
        """Some of the positives, mask bool [P]."""
        rows = self.rows[mask]
        counts = torch.bincount(rows, minlength=len(self.counts))
        return replace(self, rows=rows, items=self.items[mask], counts=counts)

    def hits(self, k: int, rows: Tensor, lists: Tensor) -> Tensor:
        """Which of each row's first k places hold positives.

        Args:
            rows: the rows whose hits are read off `lists`, int64 [T]: all, or for `RankedPositives`
                at least the `tied` ones.
            lists: the items of these rows' first k places, int64 [T, k].

        Returns:
            bool [B, k].
        """
        hits = torch.zeros(len(self.counts), k, dtype=torch.bool, device=self.rows.device)
        self._mark_places(hits)
        own = self.rows * self.n_items + self.items
        hits[rows] = torch.isin(rows[:, None] * self.n_items + lists, own)
        return hits

    def _mark_places(self, hits: Tensor) -> None:
        """Mark the places that are known without a list, in hits bool [B, k]."""


@dataclass(frozen=True)
class RankedPositives(Positives):
    """Positives and their places."""

    # number of items in the row with a higher score, int64 [P]; n if they were not counted
    above: Tensor
    # number of items in the row with the same score, itself included, int64 [P]; 1 beyond place k
    same: Tensor

    def select(self, mask: Tensor) -> Self:
        """Some of the positives, mask bool [P]."""
        return replace(super().select(mask), above=self.above[mask], same=self.same[mask])

    def tied(self, k: int) -> Tensor:
        """The rows with a positive that ties within the first k places, int64 [T], sorted."""
        return torch.unique(self.rows[(self.above < k) & (self.same > 1)])

    def _mark_places(self, hits: Tensor) -> None:
        alone = (self.above < hits.shape[1]) & (self.same == 1)
        hits[self.rows[alone], self.above[alone]] = True


def mean_ranks(scores: Tensor, positives: RankedPositives) -> Tensor:
    """RecBole's ``rec.meanrank``, float32 [B, 3].

    The columns are the sum of the average ranks of a row's positives, the number of items above the
    row's lowest score (that of masked items), and the number of positives.
    """
    sums = torch.zeros(len(scores), dtype=torch.float64, device=scores.device)
    sums.index_add_(0, positives.rows, positives.above + (positives.same.double() + 1) / 2)
    parts = split_rows(scores, scores.shape[1])
    ranked = torch.cat([count_per_row(torch.gt, part, part.amin(1)) for part in parts])
    return torch.stack((sums.float(), ranked.float(), positives.counts.float()), dim=1)


def split_rows(rows: Tensor, width: int) -> tuple[Tensor, ...]:
    """Split rows into parts of one row, or of at most `CHUNK` elements in a [part, width] block."""
    return torch.split(rows, max(CHUNK // width, 1))


def count_per_row(compare: Callable[..., Tensor], block: Tensor, values: Tensor) -> Tensor:
    """Number of elements in each row of [B, n] with compare(element, row's value), int64 [B]."""
    # Summing float32 is three times as fast as summing bool, and exact below 2^24 items.
    ones = torch.empty_like(block, dtype=torch.float32)
    return compare(block, values[:, None], out=ones).sum(1).long()


def _select_rows(scores: Tensor, rows: Tensor) -> Tensor:
    """scores[rows], without a copy if the rows are consecutive."""
    first, last = int(rows[0]), int(rows[-1])
    if last - first + 1 == len(rows) and bool((rows.diff() == 1).all()):
        return scores[first : last + 1]
    return scores[rows]
