"""Scorers of sequential models, which read each user's latest items."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from recbole.data.interaction import Interaction
from recbole.data.transform import construct_transform
from torch import Tensor

from recbole_llm.data.disk import DiskDataset, DiskLists
from recbole_llm.data.interaction import single_precision
from recbole_llm.data.split import IntArray, first_numbers
from recbole_llm.tasks.scorer import Scorer

if TYPE_CHECKING:
    from recbole.data.dataset import Dataset
    from recbole.model.abstract_recommender import AbstractRecommender

    from recbole_llm.core.config import Config


class SequentialScorer(Scorer):
    """A sequential model, on each user's latest items, in the order of training.

    Args:
        source: the data set before it is split, which holds plain interactions.
    """

    needs_history = True

    def __init__(
        self, config: Config, model: AbstractRecommender, dataset: Dataset, source: Any
    ) -> None:
        list_field = dataset.iid_field + config["LIST_SUFFIX"]
        self.source, frame = source, source.inter_feat
        if list_field in frame:
            raise ValueError(
                f"data set '{dataset.dataset_name}' has ready-made item lists ({list_field}), not "
                f"interactions; recommending needs a plain .inter file"
            )
        dtype = np.float64 if config["exact_times"] else np.float32  # as training ordered them
        times = first_numbers(frame[dataset.time_field]).to_numpy(dtype)
        order = np.lexsort((times, frame[dataset.uid_field]))
        self.frame = frame.iloc[order].reset_index(drop=True)
        self.transform = construct_transform(config)
        self.length = int(config["MAX_ITEM_LIST_LENGTH"])
        super().__init__(config, model, dataset)
        users = self.frame[dataset.uid_field].to_numpy()
        self.ends = np.searchsorted(users, np.arange(dataset.user_num), side="right")
        self.starts = np.searchsorted(users, np.arange(dataset.user_num), side="left")

    def interactions(self) -> tuple[IntArray, IntArray]:
        users, items = self.dataset.uid_field, self.dataset.iid_field
        return (
            self.frame[users].to_numpy().astype(np.int64),
            self.frame[items].to_numpy().astype(np.int64),
        )

    def ordered_history(self, user: int) -> IntArray:
        own = self.frame[self.dataset.iid_field].iloc[self.starts[user] : self.ends[user]]
        return own.to_numpy().astype(np.int64)

    def known(self, users: IntArray) -> Tensor:
        starts = np.maximum(self.starts[users], self.ends[users] - self.length)
        sizes = self.ends[users] - starts
        which = np.repeat(np.arange(len(users)), sizes)
        slots = np.arange(len(which)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
        events = self.events(starts[which] + slots)
        return self.catalogue(self._rows(events, which, slots, len(users)))

    def events(self, rows: IntArray) -> Interaction:
        """Some of the interactions, in order of user and time, by position."""
        return self.source._dataframe_to_interaction(self.frame.iloc[rows])

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


class DiskScorer(SequentialScorer):
    """The same of interactions on disk: read are those of who is asked for.

    Args:
        config: the model's.
        model: in eval mode.
        dataset: the whole data set.
    """

    histories: DiskLists

    def __init__(self, config: Config, model: AbstractRecommender, dataset: DiskDataset) -> None:
        self.config, self.model = config, model
        self.dataset = self.source = dataset
        self.device, self.n_items = config["device"], int(dataset.item_num)
        self.transform = construct_transform(config)
        self.length = int(config["MAX_ITEM_LIST_LENGTH"])
        self.columns = dataset.columns()
        starts = dataset.folder.starts()
        self.starts, self.ends = starts[:-1], starts[1:]
        self.histories = DiskLists(self.columns[dataset.iid_field], starts)

    def interactions(self) -> tuple[IntArray, IntArray]:
        size = self.dataset.folder.interactions
        users, items = (self.columns[f] for f in (self.dataset.uid_field, self.dataset.iid_field))
        return users[:size].numpy(), items[:size].numpy()

    def ordered_history(self, user: int) -> IntArray:
        return self.histories.ordered(user).numpy()

    def events(self, rows: IntArray) -> Interaction:
        places = torch.from_numpy(rows)
        return Interaction({field: column[places] for field, column in self.columns.items()})
