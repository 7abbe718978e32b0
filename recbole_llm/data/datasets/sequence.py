"""Index-only sequential data set: RecBole's batches, bit for bit, in O(N) memory."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from recbole.data.dataset import SequentialDataset as RecBoleSequentialDataset
from torch import Tensor

from recbole_llm.data.datasets.dataset import FileDataset
from recbole_llm.data.rows.histories import Column, SortedInteractions, padded_rows
from recbole_llm.data.rows.interaction import SequenceColumns, SequenceInteraction, order_key
from recbole_llm.data.rows.split import positions, user_time_order
from recbole_llm.data.rows.target_ranges import TargetRanges


class SequentialDataset(FileDataset, RecBoleSequentialDataset):  # type: ignore[misc]
    """RecBole's sequential data set without its copies.

    RecBole turns a history i1, i2, i3 into the rows (i1 → i2) and (i1, i2 → i3), each with its
    own copy of the lists. Here a row is one integer, and lists are gathered a batch at a time.
    Rows, their order, columns, shapes and dtypes are RecBole's. Benchmark files, which hold the
    lists themselves, are left to RecBole.
    """

    inter_feat: Any

    def _init_alias(self) -> None:
        super()._init_alias()
        histories = f"{self.iid_field}{self.config['LIST_SUFFIX']}"
        if self.config["benchmark_filename"] and histories not in self.alias["item_id"]:
            raise ValueError(
                f"alias_of_item_id: without '{histories}', items have other numbers in histories "
                f"than elsewhere; set {[*(self.config['alias_of_item_id'] or ()), histories]}"
            )

    def _benchmark_presets(self) -> None:
        super()._benchmark_presets()
        longest, read = self.field2seqlen[self.item_id_list_field], "MAX_ITEM_LIST_LENGTH"
        if longest > self.config[read]:
            raise ValueError(
                f"{read}: histories of data set '{self.dataset_name}' have up to {longest} items, "
                f"but {self.config[read]} are read; set {longest}, or shorten them in the files"
            )

    def data_augmentation(self) -> None:
        """Sort the interactions once, and make a row of each that has a history."""
        self._aug_presets()
        for field in (self.uid_field, self.time_field):
            if field not in self.inter_feat:
                raise ValueError(
                    f"dataset '{self.dataset_name}': sequential models need the field '{field}', "
                    f"which is not loaded; add it to load_col, or set TIME_FIELD / USER_ID_FIELD"
                )
        fields = list(self.inter_feat)
        source = self._sorted_interactions()
        columns, rows = self._lazy_columns(fields, source), self._targets(source)
        self.inter_feat = SequenceInteraction(SequenceColumns(source, rows, columns))

    def _targets(self, source: SortedInteractions) -> Tensor | TargetRanges:
        """All interactions that have a history, in order of position."""
        return source.position.nonzero().view(-1)

    def _lazy_columns(self, fields: Sequence[str], source: SortedInteractions) -> dict[str, Column]:
        """The columns of RecBole's augmented data set, in its order."""
        columns: dict[str, Column] = {field: partial(source.target, field) for field in fields}
        columns[self.item_list_length_field] = source.lengths
        for field in fields:
            if field != self.uid_field:
                list_field = getattr(self, f"{field}_list_field")
                shape = self.field2seqlen[list_field]  # L, or (L, S)
                width = None if isinstance(shape, int) else shape[1]
                columns[list_field] = partial(source.history, field, width)
        return columns

    def _sorted_interactions(self) -> SortedInteractions:
        max_length: int = self.config["MAX_ITEM_LIST_LENGTH"]
        inter = self.inter_feat
        times = order_key(inter, self.time_field)
        order = torch.from_numpy(user_time_order(inter[self.uid_field].numpy(), times))
        columns: dict[str, Tensor] = {}
        for field in list(inter.interaction):
            # Pop each column, so that only one at a time exists twice.
            columns[field] = padded_rows(inter.interaction.pop(field), order, max_length)
        exact = _split_off_exact(columns, len(order))
        users = columns[self.uid_field][: len(order)].numpy()
        position = positions(users, np.zeros(self.user_num, np.int64)).astype(np.int32)
        return SortedInteractions(columns, torch.from_numpy(position), max_length, exact)


def _split_off_exact(columns: dict[str, Tensor], count: int) -> dict[str, Tensor]:
    """Convert float64 columns to float32; return the float64 rows of those that lose precision."""
    exact = {}
    for field, column in columns.items():
        if column.dtype == torch.float64:
            columns[field] = single = column.float()
            if not torch.equal(single.double(), column):
                exact[field] = column[:count]
    return exact
