"""Scores of the whole catalogue for any users of any model, from their full history."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from functools import cached_property
from typing import Any

import numpy as np
import torch
from recbole.data.dataset import Dataset
from recbole.data.interaction import Interaction
from recbole.model.abstract_recommender import AbstractRecommender
from recbole.utils import ModelType
from torch import Tensor

from recbole_llm.core.checkpoints.tokens import vocabulary_of
from recbole_llm.core.config import Config
from recbole_llm.data.split import IntArray
from recbole_llm.data.training import training_interactions
from recbole_llm.data.user_items import UserItems
from recbole_llm.models.base import TextUserModel
from recbole_llm.offline.run import load_dataset


def check_asked(name: str, model: type[AbstractRecommender], query: bool) -> None:
    """Raise ValueError where no model of this class takes a query, or users whom it was not trained
    on; which of the sequential ones read the user's id is known when they are asked."""
    if issubclass(model, TextUserModel):
        return
    if query:
        raise ValueError(
            f"query: {name} has no text of the user that a query could move; AlphaRec has"
        )
    if model.type != ModelType.SEQUENTIAL:
        raise ValueError(
            f"items: {name} learns about each user in training and cannot score a new one; "
            f"sequential models and AlphaRec can"
        )


class Scorer:
    """A trained general or context-aware model, whose users are those of its training.

    Args:
        model: in eval mode.
        dataset: the whole data set, as `data_preparation` leaves it.
    """

    needs_history = False  # whether a user without interactions cannot be scored

    def __init__(self, config: Config, model: AbstractRecommender, dataset: Dataset) -> None:
        self.config, self.model, self.dataset = config, model, dataset
        self.device, self.n_items = config["device"], int(dataset.item_num)
        self.histories = self._histories()

    def _histories(self) -> UserItems:
        """Items of all interactions: training, validation and test."""
        return self._user_items(*training_interactions(self.dataset))

    def _user_items(self, users: IntArray, items: IntArray) -> UserItems:
        keys = np.unique(users * self.n_items + items)
        return UserItems(keys, int(self.dataset.user_num), self.n_items)

    @cached_property
    def had(self) -> UserItems:
        """What histories have, and the items of interactions that val_interval left out of them: a
        user who rated something low knows it, too."""
        if not self.config["val_interval"]:
            return self.histories
        every = self.config.having(
            val_interval=None, user_inter_num_interval=None, item_inter_num_interval=None,
            data_path=self.dataset.dataset_path,  # absolute, wherever the process is by now
        )  # fmt: skip
        whole = load_dataset(every, vocabulary=vocabulary_of(self.dataset))
        users, items = (whole.inter_feat[f].to_numpy() for f in (whole.uid_field, whole.iid_field))
        return self._user_items(users, items)

    def left_out(self, user: int) -> IntArray:
        """Items that a user had and the history lacks."""
        if self.had is self.histories:
            return np.zeros(0, np.int64)
        return np.setdiff1d(self.had[user].numpy(), self.histories[user].numpy())

    def ordered_history(self, user: int) -> IntArray:
        """Items of a user, in order of time where the model reads it."""
        return self.histories[user].numpy()

    def known(self, users: IntArray) -> Tensor:
        """Scores of users by internal id, [B, n]."""
        rows = Interaction({self.dataset.uid_field: torch.from_numpy(users)})
        return self.catalogue(self.dataset.join(rows))

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
            if self.dataset.uid_field not in rows:  # a new user: `new` says what is lacking
                raise
            raise ValueError(
                f"{self.config['model']} reads {error} of each interaction, which a recommendation "
                f"does not have; train it without that field (load_col, numerical_features)"
            ) from error
        return torch.cat(parts)


class TextUserScorer(Scorer):
    """A model that needs to have seen neither the user nor the latest interactions."""

    needs_history = True
    model: TextUserModel

    def __init__(self, config: Config, model: AbstractRecommender, dataset: Dataset) -> None:
        # A copy: the caller's model must not know the test interactions.
        super().__init__(config, copy.deepcopy(model), dataset)
        self.model.set_interactions(*training_interactions(self.dataset))

    def known(self, users: IntArray, *query: Any) -> Tensor:
        """Scores of users, who may also ask for something: a vector [D], and its weight; [B, n]."""
        return self.new([self.histories[user].numpy() for user in users], *query)

    def new(self, histories: Sequence[IntArray], *query: Any) -> Tensor:
        """Scores of users with these items, who may ask as well; [B, n]."""
        items = [torch.from_numpy(own).to(self.device) for own in histories]
        return self.model.score_users(items, *query)
