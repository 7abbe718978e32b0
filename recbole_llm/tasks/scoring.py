"""Scores of the whole catalogue for any users of any model, from their full history."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from recbole.data.interaction import Interaction
from recbole.data.transform import construct_transform
from recbole.utils import ModelType
from torch import Tensor

from recbole_llm.core.tokens import vocabulary_of
from recbole_llm.data.create import create_dataset
from recbole_llm.data.disk import DiskDataset, DiskLists
from recbole_llm.data.eval_loader import ItemLists
from recbole_llm.data.interaction import single_precision
from recbole_llm.data.split import IntArray, first_numbers
from recbole_llm.data.training import training_interactions
from recbole_llm.models.base import TextUserModel
from recbole_llm.tasks.new_items import with_new_items

if TYPE_CHECKING:
    from recbole.data.dataset import Dataset
    from recbole.model.abstract_recommender import AbstractRecommender

    from recbole_llm.core.config import Config


class Scorer:
    """A trained general or context-aware model, whose users are those of its training.

    Args:
        config: the model's.
        model: in eval mode.
        dataset: the whole data set, as `data_preparation` leaves it.
    """

    needs_history = False  # whether a user without interactions cannot be scored

    def __init__(self, config: Config, model: AbstractRecommender, dataset: Dataset) -> None:
        self.config, self.model, self.dataset = config, model, dataset
        self.device, self.n_items = config["device"], int(dataset.item_num)
        users, items = self.interactions()
        keys = np.unique(users * self.n_items + items)
        self.histories = ItemLists(keys, int(dataset.user_num), self.n_items)

    def interactions(self) -> tuple[IntArray, IntArray]:
        """Users and items of all interactions: training, validation and test."""
        return training_interactions(self.dataset)

    def ordered_history(self, user: int) -> IntArray:
        """Items of a user, in order of time where the model reads it."""
        items: IntArray = self.histories[user].numpy()
        return items

    def known(self, users: IntArray) -> Tensor:
        """Scores of users by internal id, [B, n]."""
        rows = Interaction({self.dataset.uid_field: torch.from_numpy(users)})
        return self.catalogue(self.dataset.join(rows))

    def new(self, items: IntArray) -> Tensor:
        """Scores of a new user with these items in order of time, [1, n]."""
        raise ValueError(
            f"items: {self.config['model']} learns about each user in training and cannot score a "
            f"new one; sequential models and AlphaRec can"
        )

    def query(self, histories: Sequence[IntArray], query: Tensor, weight: float) -> Tensor:
        """Scores of users with these items who also ask for something, [B, n]."""
        raise NotImplementedError

    def require_query(self) -> None:
        """Raise ValueError unless the model can take a query."""
        raise ValueError(
            f"query: {self.config['model']} has no text of the user that a query could move; "
            f"AlphaRec has"
        )

    @torch.no_grad()
    def catalogue(self, rows: Interaction) -> Tensor:
        """Scores of every item for each row, [B, n]."""
        rows = rows.to(self.device)
        try:
            scores = self.model.full_sort_predict(rows)
        except NotImplementedError:
            scores = self._one_by_one(rows)
        return torch.as_tensor(scores).view(-1, self.n_items)

    def _one_by_one(self, rows: Interaction) -> Tensor:
        """For models that score single (row, item) pairs only, such as context-aware ones."""
        items = self.dataset.get_item_feature().to(self.device)
        pairs = rows.repeat_interleave(self.n_items)
        pairs.update(items.repeat(len(rows)))
        size = max(1, int(self.config["eval_batch_size"]))
        try:
            parts = [
                torch.as_tensor(self.model.predict(pairs[start : start + size])).view(-1)
                for start in range(0, len(pairs), size)
            ]
        except KeyError as error:
            raise ValueError(
                f"{self.config['model']} reads {error} of each interaction, which a recommendation "
                f"does not have; train it without that field (load_col, numerical_features)"
            ) from error
        return torch.cat(parts)


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
        items: IntArray = own.to_numpy().astype(np.int64)
        return items

    def known(self, users: IntArray) -> Tensor:
        starts = np.maximum(self.starts[users], self.ends[users] - self.length)
        sizes = self.ends[users] - starts
        which = np.repeat(np.arange(len(users)), sizes)
        slots = np.arange(len(which)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
        events = self.events(starts[which] + slots)
        return self.catalogue(self._rows(events, which, slots, len(users)))

    def events(self, rows: IntArray) -> Interaction:
        """Some of the interactions, in order of user and time, by position."""
        found: Interaction = self.source._dataframe_to_interaction(self.frame.iloc[rows])
        return found

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
        own: IntArray = self.histories.ordered(user).numpy()
        return own

    def events(self, rows: IntArray) -> Interaction:
        places = torch.from_numpy(rows)
        return Interaction({field: column[places] for field, column in self.columns.items()})


class TextUserScorer(Scorer):
    """A model that needs to have seen neither the user nor the latest interactions."""

    model: TextUserModel

    def __init__(self, config: Config, model: AbstractRecommender, dataset: Dataset) -> None:
        # A copy: the caller's model must not know the test interactions.
        super().__init__(config, copy.deepcopy(model), dataset)
        self.model.set_interactions(*self.interactions())

    def known(self, users: IntArray) -> Tensor:
        return self.model.score_users(self._ids([self.histories[u].numpy() for u in users]))

    def new(self, items: IntArray) -> Tensor:
        return self.model.score_users(self._ids([items]))

    def query(self, histories: Sequence[IntArray], query: Tensor, weight: float) -> Tensor:
        return self.model.score_users(self._ids(histories), query.to(self.device), weight)

    def require_query(self) -> None:
        pass

    def _ids(self, histories: Sequence[IntArray]) -> list[Tensor]:
        return [torch.from_numpy(items).to(self.device) for items in histories]


def make_scorer(config: Config, model: AbstractRecommender, dataset: Dataset) -> Scorer:
    """The scorer for a trained model; `dataset` is the whole one, before or after the split.

    Raises:
        ValueError: a model that RecBole itself cannot rank the catalogue with.
    """
    model.eval()
    kind = config["MODEL_TYPE"]
    if kind == ModelType.DECISIONTREE:
        raise ValueError(f"{config['model']} is a decision tree, which cannot recommend from here")
    model, dataset, source = with_new_items(config, model, dataset)
    if isinstance(model, TextUserModel):
        return TextUserScorer(config, model, dataset)
    if kind != ModelType.SEQUENTIAL:
        return Scorer(config, model, dataset)
    if isinstance(dataset, DiskDataset):
        return DiskScorer(config, model, dataset)
    # The split has replaced the interactions of `dataset` by rows with lists.
    source = source or create_dataset(config, vocabulary=vocabulary_of(dataset))
    return SequentialScorer(config, model, dataset, source)
