"""The scorer of sequential models, which read each user's latest items."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from recbole.data.interaction import Interaction
from recbole.data.transform import construct_transform
from torch import Tensor

from recbole_llm.data.disk import DiskDataset
from recbole_llm.data.interaction import single_precision
from recbole_llm.data.split import IntArray, order_key
from recbole_llm.data.user_items import UserItems
from recbole_llm.tasks.scorer import Scorer

if TYPE_CHECKING:
    from recbole.data.dataset import Dataset
    from recbole.model.abstract_recommender import AbstractRecommender

    from recbole_llm.core.config import Config


class SequentialScorer(Scorer):
    """A sequential model, on each user's latest items, in the order of training.

    Args:
        source: the data set before it is split, which holds plain interactions; or the one on disk.
    """

    needs_history = True
    histories: _Histories

    def __init__(
        self, config: Config, model: AbstractRecommender, dataset: Dataset, source: Any
    ) -> None:
        self.source = source
        self.columns, self.starts = _sorted(source, config["LIST_SUFFIX"])
        self.transform = construct_transform(config)
        self.length = int(config["MAX_ITEM_LIST_LENGTH"])
        super().__init__(config, model, dataset)

    def _histories(self) -> UserItems:
        return _Histories(self.columns[self.dataset.iid_field], self.starts)

    def ordered_history(self, user: int) -> IntArray:
        return self.histories.ordered(user).numpy()

    def known(self, users: IntArray) -> Tensor:
        ends = self.starts[users + 1]
        starts = np.maximum(self.starts[users], ends - self.length)
        sizes = ends - starts
        which = np.repeat(np.arange(len(users)), sizes)
        slots = np.arange(len(which)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
        events = self.events(starts[which] + slots)
        return self.catalogue(self._rows(events, which, slots, len(users)))

    def events(self, rows: IntArray) -> Interaction:
        """Some of the interactions, in order of user and time, by position."""
        places = torch.from_numpy(rows)
        return Interaction({field: column[places] for field, column in self.columns.items()})

    def new(self, items: IntArray) -> Tensor:
        items = items[-self.length :]
        events = self.events(np.zeros(len(items), np.int64))
        for field, column in events.interaction.items():
            column.zero_()  # nothing is known of the new user's events but their items and order
            if field == self.dataset.iid_field:
                column.copy_(torch.from_numpy(items))
            elif field == self.dataset.time_field:
                values = torch.arange(len(items), dtype=column.dtype)
                column.copy_(values.view(-1, *[1] * (column.dim() - 1)).expand_as(column))
        del events.interaction[self.dataset.uid_field]
        slots = np.arange(len(items))
        rows = self._rows(events, np.zeros_like(slots), slots, 1)
        try:
            return self.catalogue(rows)
        except KeyError as error:
            raise ValueError(
                f"items: {self.config['model']} reads {error} of its users, which a new user does "
                f"not have; use a model of the item sequence alone, such as SASRec"
            ) from error

    def _rows(
        self, events: Interaction, which: IntArray, slots: IntArray, size: int
    ) -> Interaction:
        """A row a user, as RecBole's data sets have them, from the events of all of them.

        Args:
            events: E interactions.
            which: int [E], the row of each.
            slots: int [E], its place in the row's lists.
            size: number of rows.
        """
        suffix, lengths = self.config["LIST_SUFFIX"], np.bincount(which, minlength=size)
        last = torch.from_numpy(np.cumsum(lengths) - 1)
        columns: dict[str, Tensor] = {}
        for field, column in events.interaction.items():
            columns[field] = column[last]
            if field == self.dataset.uid_field:
                continue
            width = list(column.shape[1:])
            if width and field in self.source.seq_fields:
                width[0] = max(width[0], int(self.source.field2seqlen[field]))
            lists = column.new_zeros(size, self.length, *width)
            real = lists[:, :, : column.shape[1]] if width else lists
            real[torch.from_numpy(which), torch.from_numpy(slots)] = column
            columns[field + suffix] = lists
        columns[self.dataset.item_list_length_field] = torch.from_numpy(lengths)
        negatives = getattr(self.dataset, "neg_item_list_field", None)
        if negatives is not None:  # DIEN's, of its auxiliary loss alone
            columns[negatives] = torch.zeros_like(columns[self.dataset.iid_field + suffix])
        rows = single_precision(Interaction(columns))
        return self.transform(self.dataset, self.dataset.join(rows))


class _Histories(UserItems):
    """Items of each user, read as somebody asks for them.

    Args:
        items: of all interactions, sorted by user and time, int64 [N].
        starts: where each user's begin, and N; int64 [n_users + 1].
    """

    def __init__(self, items: Tensor, starts: IntArray) -> None:
        self.items, self.starts = items, starts

    def ordered(self, user: int) -> Tensor:
        """A user's items in order of time."""
        return self.items[self.starts[user] : self.starts[user + 1]]

    def __getitem__(self, users: Any) -> Any:
        if np.ndim(users):
            return [self[user] for user in users]
        return torch.unique(self.ordered(users))


def _sorted(source: Any, list_suffix: str) -> tuple[Mapping[str, Tensor], IntArray]:
    """The columns of all interactions by user and time, and where each user's begin, and N."""
    if isinstance(source, DiskDataset):
        return source.columns(), source.folder.starts()
    list_field = source.iid_field + list_suffix
    if list_field in source.inter_feat:
        raise ValueError(
            f"data set '{source.dataset_name}' has ready-made item lists ({list_field}), not "
            f"interactions; recommending needs a plain .inter file"
        )
    events = source._dataframe_to_interaction(source.inter_feat)
    users = events[source.uid_field].numpy()
    order = np.lexsort((order_key(events, source.time_field), users))
    rows = torch.from_numpy(order)
    columns = {field: column[rows] for field, column in events.interaction.items()}
    return columns, np.searchsorted(users[order], np.arange(source.user_num + 1))
