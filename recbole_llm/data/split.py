"""Rows grouped by a key, and cut into parts group by group, without a loop over rows."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

IntArray: TypeAlias = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Groups:
    """Rows with the same key, groups in order of first appearance, rows in their own order.

    Args:
        rows: rows of all groups one after another, int [R].
        sizes: rows of each group, int [G].
    """

    rows: IntArray
    sizes: IntArray

    @classmethod
    def of(cls, keys: IntArray) -> Groups:
        """Group the rows 0…R-1 by their keys, int [R]."""
        if not len(keys):
            return cls(np.empty(0, np.int64), np.empty(0, np.int64))
        by_key = np.argsort(keys, kind="stable")
        starts = np.flatnonzero(np.r_[True, np.diff(keys[by_key]) != 0])
        sizes = np.diff(np.r_[starts, len(keys)])
        appearance = np.argsort(by_key[starts], kind="stable")
        sizes = sizes[appearance]
        return cls(by_key[ranges(starts[appearance], sizes)], sizes)

    @property
    def starts(self) -> IntArray:
        """Where each group begins in ``rows``, int [G]."""
        starts: IntArray = np.cumsum(self.sizes) - self.sizes
        return starts

    def __iter__(self) -> Iterator[IntArray]:
        return iter(np.split(self.rows, np.cumsum(self.sizes)[:-1]))

    def __len__(self) -> int:
        return len(self.sizes)

    def sums(self, values: Any) -> IntArray:
        """Sum of a value per row, [R], over each group, int [G]."""
        total: IntArray = np.concatenate([[0], np.cumsum(values[self.rows], dtype=np.int64)])
        sums: IntArray = total[self.starts + self.sizes] - total[self.starts]
        return sums

    def cut(self, ends: Sequence[IntArray]) -> list[IntArray]:
        """Cut every group into parts, and put the groups' parts together.

        Args:
            ends: for each part, where it ends in each group, int [G]; a part begins where the
                one before ends.

        Returns:
            the rows of each part.
        """
        parts = []
        begin = np.zeros_like(self.sizes)
        for end in ends:
            parts.append(self.rows[ranges(self.starts + begin, end - begin)])
            begin = end
        return parts


def ranges(starts: IntArray, sizes: IntArray) -> IntArray:
    """The ranges start…start+size-1 one after another."""
    offsets = np.cumsum(sizes) - sizes
    return np.repeat(starts - offsets, sizes) + np.arange(sizes.sum())
