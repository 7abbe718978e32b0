"""Targets as ranges of histories, which take memory per user instead of per interaction."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor

from recbole_llm.core.arrays import IntArray
from recbole_llm.data.rows.split import ranges


@dataclass(frozen=True)
class TargetRanges:
    """Ranges of consecutive targets in a history, in order of position."""

    begin: IntArray  # position of the first interaction of each range's history, int64 [G]
    low: IntArray  # position of each range's first target, int64 [G]
    high: IntArray  # position of each range's last target, int64 [G]; begin <= low <= high
    order: IntArray | None = None  # of the ranges among the rows, int64 [G]; None: by position

    @classmethod
    def of(cls, rows: IntArray, position: IntArray) -> TargetRanges:
        """The ranges of some targets.

        Args:
            rows: positions of the targets among all interactions, int64 [R] in any order.
            position: number of earlier interactions of the same user, int32 [N].
        """
        targets = np.sort(rows)
        begins = targets - position[targets]
        new = (np.diff(targets) != 1) | (np.diff(begins) != 0)
        first = np.flatnonzero(np.r_[True, new][: len(targets)])
        last = np.flatnonzero(np.r_[new, True][: len(targets)])
        return cls(begins[first], targets[first], targets[last])

    @property
    def sizes(self) -> IntArray:
        """Targets of each range, int64 [G]."""
        return self.high - self.low + 1

    @property
    def count(self) -> int:
        """Number of all targets."""
        return int(self.sizes.sum())

    def rows(self) -> Tensor:
        """Positions of all targets, int64 [R]."""
        low, sizes = self.low, self.sizes
        if self.order is not None:
            low, sizes = low[self.order], sizes[self.order]
        return torch.from_numpy(ranges(low, sizes))

    def parts(self, size: int) -> Iterator[TargetRanges]:
        """Yield `size` ranges at a time, in order of position; one empty part if there are none."""
        for start in range(0, max(len(self.low), 1), size):
            of = slice(start, start + size)
            yield TargetRanges(self.begin[of], self.low[of], self.high[of])

    def cut(self, ends: Sequence[IntArray]) -> list[TargetRanges]:
        """Cut every range into parts; return the ranges of each part.

        Args:
            ends: for each part, how many targets of each range are before its end, int [G]; a
                part begins where the previous one ends.
        """
        return [self._between(*part) for part in pairwise([np.zeros_like(self.low), *ends])]

    def _between(self, before: IntArray, end: IntArray) -> TargetRanges:
        filled = end > before
        order = self.order
        if order is not None:
            order = (np.cumsum(filled) - 1)[order[filled[order]]]
        low, high = (self.low + before)[filled], (self.low + end - 1)[filled]
        return TargetRanges(self.begin[filled], low, high, order)
