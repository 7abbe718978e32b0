"""The scorer of a model: scores of the whole catalogue for any users."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from recbole.utils import ModelType
from torch import Tensor

from recbole_llm.core.tokens import vocabulary_of
from recbole_llm.data.create import create_dataset
from recbole_llm.data.disk import DiskDataset
from recbole_llm.data.split import IntArray
from recbole_llm.models.base import TextUserModel
from recbole_llm.tasks.new_items import with_new_items
from recbole_llm.tasks.scorer import Scorer
from recbole_llm.tasks.sequential_scorer import DiskScorer, SequentialScorer

if TYPE_CHECKING:
    from recbole.data.dataset import Dataset
    from recbole.model.abstract_recommender import AbstractRecommender

    from recbole_llm.core.config import Config


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
