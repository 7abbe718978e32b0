"""Full-sort evaluation loader: as many users per step as a memory budget allows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from recbole.data.dataloader import (
    FullSortEvalDataLoader as RecBoleFullSortEvalDataLoader,
)
from recbole.data.dataset import Dataset
from recbole.data.interaction import Interaction
from recbole.utils import ModelType
from torch import Tensor

from recbole_llm.core.config import Config
from recbole_llm.core.processes import distributed
from recbole_llm.data.loading.loaders import IndexDataLoader, own_rows
from recbole_llm.data.loading.ranking_step import ranking_step
from recbole_llm.data.rows.interaction import take
from recbole_llm.data.rows.split import sorted_unique
from recbole_llm.data.rows.user_items import UserItems
from recbole_llm.data.settings import EngineSettings


class FullSortEvalDataLoader(RecBoleFullSortEvalDataLoader, IndexDataLoader):  # type: ignore[misc]
    """RecBole's full-sort batches, sized by ``eval_memory_mib``.

    RecBole fits ``eval_batch_size`` *scores* into a step of a general model, which means one user
    per step if the catalogue is larger. Here a step holds as many users as fit the budget. For
    sequential models it has at most ``eval_batch_size`` rows, and the hidden states of their
    histories count too. Users, positives and histories are RecBole's.

    Attributes:
        items_a_block: items to be scored at a time; None: all.
    """

    items_a_block: int | None = None

    def __init__(
        self, config: Config, dataset: Dataset, sampler: Any, shuffle: bool = False
    ) -> None:
        if config["MODEL_TYPE"] == ModelType.SEQUENTIAL:
            super().__init__(config, dataset, sampler, shuffle=shuffle)
            return
        self.is_sequential = False
        self.uid_field, self.iid_field = dataset.uid_field, dataset.iid_field
        dataset.sort(by=self.uid_field, ascending=True)
        self._index_users(dataset, sampler)
        self.sample_size = len(self.uid_list)
        # Skip RecBole's own __init__, which does the above in a loop over interactions.
        super(RecBoleFullSortEvalDataLoader, self).__init__(config, dataset, sampler, shuffle=False)

    def _index_users(self, dataset: Dataset, sampler: Any) -> None:
        n_users, n_items = dataset.user_num, dataset.item_num
        users, items = (dataset.inter_feat[f].numpy() for f in (self.uid_field, self.iid_field))
        positives = sorted_unique(users * n_items + items)
        history = np.setdiff1d(sampler.used_ids.keys, positives, assume_unique=True)
        self.uid2positive_item = UserItems(positives, n_users, n_items)
        self.uid2history_item = UserItems(history, n_users, n_items)
        self.uid2items_num = self.uid2positive_item.counts()
        self.uid_list = torch.from_numpy(np.flatnonzero(self.uid2items_num))
        self.user_df = dataset.join(Interaction({self.uid_field: self.uid_list}))

    def _init_batch_size_and_step(self) -> None:
        budget = EngineSettings.of(self.config).eval_memory_mib
        if budget == 0:
            super()._init_batch_size_and_step()
            return
        self.step, self.items_a_block = ranking_step(self.config, self._dataset, budget * 2**20)
        if self.is_sequential:
            self.step = min(self.step, self.config["eval_batch_size"])
        self.set_batch_size(self.step if self.is_sequential else self.step * self._dataset.item_num)

    @property
    def _index_sampler(self) -> Sequence[Tensor]:
        return own_rows(self.sample_size, self.step)

    @property
    def first_row(self) -> int:
        """Number of evaluation rows before those of this process."""
        return distributed.own_range(self.sample_size).start

    def collate_fn(self, index: Tensor) -> tuple[Interaction, Any, Tensor, Tensor]:
        """Users (or sequences), history to mask, rows of the positives, positives."""
        if self.is_sequential:
            return super().collate_fn(index)
        users = self.uid_list[index].numpy()
        history = self.uid2history_item.pairs(users)
        return (take(self.user_df, index), history, *self.uid2positive_item.pairs(users))
