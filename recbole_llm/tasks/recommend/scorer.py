"""Scores of all items for any users of any model, from their full history."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from functools import cached_property
from typing import NamedTuple

import numpy as np
import torch
from recbole.data.dataset import Dataset
from recbole.data.interaction import Interaction
from recbole.model.abstract_recommender import AbstractRecommender
from recbole.utils import ModelType
from torch import Tensor

from recbole_llm.core.arrays import IntArray
from recbole_llm.core.checkpoints.tokens import vocabulary_of
from recbole_llm.core.config import Config
from recbole_llm.data.rows.split import sorted_unique
from recbole_llm.data.rows.training import training_interactions
from recbole_llm.data.rows.user_items import UserItems
from recbole_llm.models.base import TextUserModel
from recbole_llm.offline.run import load_dataset


class Query(NamedTuple):
    """A user's query in words, encoded."""

    vector: Tensor  # float32 [D]
    weight: float  # against the user's own text, 0 to 1


def check_class_can_answer(name: str, model: type[AbstractRecommender], has_query: bool) -> None:
    """Raise ValueError if models of this class cannot take a query, or cannot score new users.
    Sequential models that read the user's id are refused only when they score a new user."""
    if issubclass(model, TextUserModel):
        return
    if has_query:
        raise ValueError(
            f"query: {name} reads no text of its users, so it cannot take a query; AlphaRec can"
        )
    if model.type != ModelType.SEQUENTIAL:
        raise ValueError(
            f"items: {name} learns about each user in training and cannot score a new one; "
            f"sequential models and AlphaRec can"
        )


class Scorer:
    """Scorer of a trained general or context-aware model, for the users of its training.

    Args:
        model: in eval mode.
        dataset: the whole data set, as `data_preparation` leaves it.
    """

    needs_history = False  # whether a user without interactions cannot be scored

    def __init__(self, config: Config, model: AbstractRecommender, dataset: Dataset) -> None:
        self.config, self.model, self.dataset = config, model, dataset
        self.device, self.n_items = config["device"], int(dataset.item_num)
        self.histories = self._read_histories()

    def _read_histories(self) -> UserItems:
        """Items of all interactions: training, validation and test."""
        return self._group_by_user(*training_interactions(self.dataset))

    def _group_by_user(self, users: IntArray, items: IntArray) -> UserItems:
        keys = sorted_unique(users * self.n_items + items)
        return UserItems(keys, int(self.dataset.user_num), self.n_items)

    @cached_property
    def seen_items(self) -> UserItems:
        """Items of the histories, and items that val_interval filtered out of them, since users
        also know what they rated low."""
        if not self.config["val_interval"]:
            return self.histories
        unfiltered = self.config.with_values(
            val_interval=None, user_inter_num_interval=None, item_inter_num_interval=None,
            data_path=self.dataset.dataset_path,  # absolute: the working directory may change
        )  # fmt: skip
        every = load_dataset(unfiltered, vocabulary=vocabulary_of(self.dataset))
        users, items = (every.inter_feat[f].to_numpy() for f in (every.uid_field, every.iid_field))
        return self._group_by_user(users, items)

    def filtered_out_items(self, user: int) -> IntArray:
        """Items that a user has seen and the history lacks."""
        if self.seen_items is self.histories:
            return np.zeros(0, np.int64)
        return np.setdiff1d(self.seen_items[user].numpy(), self.histories[user].numpy())

    def ordered_history(self, user: int) -> IntArray:
        """Items of a user, in order of time if the model reads the order."""
        return self.histories[user].numpy()

    def score_known_users(self, users: IntArray, query: Query | None = None) -> Tensor:
        """Scores for users by internal id, with a query where the model takes one, [B, n]."""
        rows = Interaction({self.dataset.uid_field: torch.from_numpy(users)})
        return self.score_all_items(self.dataset.join(rows))

    def score_new_users(self, histories: Sequence[IntArray], query: Query | None = None) -> Tensor:
        """Scores for users with these items, [B, n]; call `check_class_can_answer` before."""
        raise NotImplementedError

    @torch.no_grad()
    def score_all_items(self, rows: Interaction) -> Tensor:
        """Scores of every item for each row, [B, n]."""
        rows = rows.to(self.device)
        try:
            scores = self.model.full_sort_predict(rows)
        except NotImplementedError:
            scores = self._score_pairs(rows)
        return torch.as_tensor(scores).view(-1, self.n_items)

    def _score_pairs(self, rows: Interaction) -> Tensor:
        """Score with a model of single (row, item) pairs, such as a context-aware one."""
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
            if self.dataset.uid_field not in rows:  # a new user: `score_new_users` reports it
                raise
            raise ValueError(
                f"{self.config['model']} reads {error} of each interaction, which a recommendation "
                f"does not have; train it without that field (load_col, numerical_features)"
            ) from error
        return torch.cat(parts)


class TextUserScorer(Scorer):
    """Scorer of a model that takes new users and interactions without training on them."""

    needs_history = True
    model: TextUserModel

    def __init__(self, config: Config, model: AbstractRecommender, dataset: Dataset) -> None:
        # A copy: the caller's model must not know the test interactions.
        super().__init__(config, copy.deepcopy(model), dataset)
        self.model.set_interactions(*training_interactions(self.dataset))

    def score_known_users(self, users: IntArray, query: Query | None = None) -> Tensor:
        return self.score_new_users([self.histories[user].numpy() for user in users], query)

    def score_new_users(self, histories: Sequence[IntArray], query: Query | None = None) -> Tensor:
        items = [torch.from_numpy(history).to(self.device) for history in histories]
        return self.model.score_users(items, *(query or ()))
