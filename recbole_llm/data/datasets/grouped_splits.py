"""Splits of a data set into training, validation and test."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Self

import numpy as np
import torch
from recbole.data.dataset import Dataset

from recbole_llm.core.arrays import IntArray
from recbole_llm.data.rows.interaction import SequenceInteraction, order_key, take
from recbole_llm.data.rows.split import Groups
from recbole_llm.data.settings import EngineSettings


class GroupedSplits(Dataset):  # type: ignore[misc]
    """Mixin before a data set class of RecBole: its splits, without loops over interactions.

    Rows, their order and the rounding are RecBole's.
    """

    def shuffle(self) -> None:
        """Put the rows in an order drawn by `split_seed`, or by the run's seed as RecBole does."""
        seed = EngineSettings.of(self.config).split_seed
        if seed is None:
            super().shuffle()
            return
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            super().shuffle()

    def _grouped_index(self, group_by_list: object) -> Groups:
        return Groups.of(np.asarray(group_by_list))

    def _split_index_by_leave_one_out(
        self, grouped_index: Groups, leave_one_num: int
    ) -> list[IntArray]:
        return grouped_index.cut(leave_one_out_ends(grouped_index.sizes, leave_one_num))

    def split_by_ratio(self, ratios: Sequence[float], group_by: str | None = None) -> list[Self]:
        """Split each group's rows (or all rows) in order by ratio, with RecBole's rounding."""
        normal = [ratio / sum(ratios) for ratio in ratios]
        rows = self.inter_feat
        keys = np.zeros(len(rows), np.int64) if group_by is None else rows[group_by].numpy()
        groups = self._grouped_index(keys)
        sizes, which = np.unique(groups.sizes, return_inverse=True)
        ends = np.array([self._calcu_split_ids(tot=int(n), ratios=normal) for n in sizes])
        ends = ends.reshape(len(sizes), len(normal) - 1)[which]  # [G, parts - 1]
        return self._split_rows(groups.cut([*ends.T, groups.sizes]))

    def time_based_split(self, ratios: Sequence[float], group_by: str | None) -> list[Self]:
        """Hold out rows after a global point in time as test; split the rest of each group."""
        if group_by is None or self.time_field not in self.inter_feat:
            return super().time_based_split(ratios, group_by)  # raises RecBole's error
        train, valid, test = (ratio / sum(ratios) for ratio in ratios)
        times = order_key(self.inter_feat, self.time_field)
        boundary = np.percentile(times, 100 * (1 - test))
        groups = self._grouped_index(self.inter_feat[group_by].numpy())
        early = groups.sums(times <= boundary)  # [G]; rows are in order of time
        share = train / (1 - test) if valid else 1.0  # rounding may leave it below 1
        split = (early * share).astype(np.int64)
        return self._split_rows(groups.cut([split, early, groups.sizes]))

    def _split_rows(self, parts: Sequence[IntArray]) -> list[Self]:
        self._drop_unused_col()
        rows = self.inter_feat
        lazy = isinstance(rows, SequenceInteraction)  # stays lazy
        return [self.copy(rows[part] if lazy else take(rows, part)) for part in parts]


def leave_one_out_ends(sizes: IntArray, leave_one_num: int) -> list[IntArray]:
    """The end of each part in each group, int [G] per part: training, then the held-out parts."""
    last = np.minimum(leave_one_num, sizes - 1)  # [G], held out of each group
    # The last part gets each group's last row, the part before it the row before, if there is one.
    ends = [sizes - last]
    for part in range(1, leave_one_num):
        ends.append(sizes - np.minimum(last, leave_one_num - part))
    return [*ends, sizes]
