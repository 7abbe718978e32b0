"""The scorer of sequential models, which read each user's latest items."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from recbole.data.dataset import Dataset
from recbole.data.interaction import Interaction
from recbole.data.transform import construct_transform
from recbole.model.abstract_recommender import AbstractRecommender
from torch import Tensor

from recbole_llm.core.arrays import IntArray
from recbole_llm.core.config import Config
from recbole_llm.data.datasets.disk import DiskDataset
from recbole_llm.data.rows.histories import padded_rows, windows
from recbole_llm.data.rows.interaction import SequenceInteraction, order_key, single_precision
from recbole_llm.data.rows.user_items import UserItems
from recbole_llm.tasks.recommend.scorer import Query, Scorer


class SequentialScorer(Scorer):
    """Scorer of a sequential model, which reads each user's latest items in the order of training.

    Args:
        source: a data set of this package before or after the split, or RecBole's before the split.
    """

    needs_history = True
    histories: _Histories

    def __init__(
        self, config: Config, model: AbstractRecommender, dataset: Dataset, source: Any
    ) -> None:
        self.source = source
        self.length = int(config["MAX_ITEM_LIST_LENGTH"])
        self.columns, self.starts = _sort_interactions(source, config["LIST_SUFFIX"], self.length)
        self.transform = construct_transform(config)
        super().__init__(config, model, dataset)

    def _read_histories(self) -> UserItems:
        return _Histories(self.columns[self.dataset.iid_field], self.starts)

    def ordered_history(self, user: int) -> IntArray:
        return self.histories.ordered(user).numpy()

    def score_known_users(self, users: IntArray, query: Query | None = None) -> Tensor:
        ends = self.starts[users + 1]
        lengths = np.minimum(ends - self.starts[users], self.length)
        return self.score_all_items(self._make_rows(self.columns, ends, lengths))

    def score_new_users(self, histories: Sequence[IntArray], query: Query | None = None) -> Tensor:
        latest = [items[-self.length :] for items in histories]
        lengths = np.array([len(items) for items in latest])
        ends, item, time = lengths.cumsum(), self.dataset.iid_field, self.dataset.time_field
        count = int(ends[-1])
        # Only the items and their order are known of the new users' events.
        events = {
            field: column.new_zeros(count + self.length, *column.shape[1:])
            for field, column in self.columns.items()
            if field != self.dataset.uid_field
        }
        events[item][:count] = torch.from_numpy(np.concatenate(latest))
        order = torch.from_numpy(np.arange(count) - np.repeat(ends - lengths, lengths))
        events[time][:count] = order.view(-1, *[1] * (events[time].dim() - 1))
        try:
            return self.score_all_items(self._make_rows(events, ends, lengths))
        except KeyError as error:
            raise ValueError(
                f"items: {self.config['model']} reads {error} of its users, which a new user does "
                f"not have; use a model of the item sequence alone, such as SASRec"
            ) from error

    def _make_rows(
        self, events: Mapping[str, Tensor], ends: IntArray, lengths: IntArray
    ) -> Interaction:
        """Make one row per user, as RecBole's data sets have them.

        Args:
            events: columns of interactions, each user's one after another.
            ends: where each user's interactions end, int [B].
            lengths: how many of each user's last interactions are read, int [B].
        """
        suffix, counts = self.config["LIST_SUFFIX"], torch.from_numpy(lengths)
        last, starts = torch.from_numpy(ends - 1), torch.from_numpy(ends - lengths)
        columns: dict[str, Tensor] = {}
        for field, values in events.items():
            columns[field] = values[last]
            if field != self.dataset.uid_field:
                of_lists = field in self.source.seq_fields
                width = int(self.source.field2seqlen[field]) if of_lists else None
                columns[field + suffix] = windows(values, starts, counts, self.length, width)
        columns[self.dataset.item_list_length_field] = counts
        negatives = getattr(self.dataset, "neg_item_list_field", None)
        if negatives is not None:  # DIEN's, for its auxiliary loss alone
            columns[negatives] = torch.zeros_like(columns[self.dataset.iid_field + suffix])
        rows = single_precision(Interaction(columns))
        return self.transform(self.dataset, self.dataset.join(rows))


class _Histories(UserItems):
    """Items of each user, read on demand.

    Args:
        items: items of all interactions, sorted by user and time, int64 [N + padding].
        starts: where each user's items begin, and N; int64 [n_users + 1].
    """

    def __init__(self, items: Tensor, starts: IntArray) -> None:
        self.items, self.starts = items, starts

    def ordered(self, user: int) -> Tensor:
        """A user's items in order of time."""
        return self.items[self.starts[user] : self.starts[user + 1]]

    def __getitem__(self, user: Any) -> Tensor:
        return torch.unique(self.ordered(user))


def _sort_interactions(
    source: Any, list_suffix: str, padding: int
) -> tuple[Mapping[str, Tensor], IntArray]:
    """Sort all interactions by user and time; returns their columns, padded with zeros at the end,
    [N + padding, *], and where each user's interactions begin, with N as the last."""
    if isinstance(source, DiskDataset):
        return source.columns(), source.folder.starts()
    user_ids = np.arange(source.user_num + 1)
    if isinstance(source.inter_feat, SequenceInteraction):  # split, whose histories are sorted
        interactions = source.inter_feat.interaction.source
        users = interactions.columns[source.uid_field][: len(interactions.position)].numpy()
        return interactions.columns, np.searchsorted(users, user_ids)
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
    columns = {f: padded_rows(column, rows, padding) for f, column in events.interaction.items()}
    return columns, np.searchsorted(users[order], user_ids)
