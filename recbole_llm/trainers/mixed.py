"""Training of a part that the models of several data sets share, on all of them at once."""

from __future__ import annotations

import copy
import itertools
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from recbole.model.abstract_recommender import AbstractRecommender
from recbole.utils import calculate_valid_score
from torch import Tensor, nn

from recbole_llm.trainers.trainer import Trainer


class MixedBatch(list[Any]):
    """One interaction per data set, or None if the data set has no rows left."""

    def to(self, device: object) -> MixedBatch:
        return MixedBatch(None if rows is None else rows.to(device) for rows in self)


class MixedModel(AbstractRecommender):  # type: ignore[misc]
    """Models of several data sets that share one part, which alone has weights to train."""

    def __init__(self, models: Sequence[Any], part: str) -> None:
        super().__init__()
        for model in models[1:]:
            setattr(model, part, getattr(models[0], part))
        self.models = nn.ModuleList(models)

    def calculate_loss(self, batch: MixedBatch) -> Tensor:
        """Mean loss over the rows of all data sets, scalar."""
        models: list[Any] = list(self.models)
        parts = [(m, rows) for m, rows in zip(models, batch, strict=True) if rows is not None]
        count = sum(len(rows) for _, rows in parts)
        losses = [model.calculate_loss(rows) * (len(rows) / count) for model, rows in parts]
        return sum(losses[1:], losses[0])


class MixedLoader:
    """Batches with rows of every data set, from training loaders whose batch sizes are in
    proportion to their data sets' sizes."""

    def __init__(self, loaders: Sequence[Any]) -> None:
        self.loaders = list(loaders)
        # The trainer reads the metrics' training data here, but each task has its own trainer.
        self.dataset = self.loaders[0].dataset

    def __len__(self) -> int:
        return max(len(loader) for loader in self.loaders)

    def __iter__(self) -> Iterator[MixedBatch]:
        return map(MixedBatch, itertools.zip_longest(*self.loaders))


class MixedTrainer(Trainer):
    """The trainer that validates by the mean over data sets; the best state stays in memory."""

    best_state: dict[str, Tensor] | None = None

    def on_improvement(self) -> None:
        """Keep the weights."""
        self.best_state = copy.deepcopy(self.model.state_dict())

    def _validate(self, tasks: Sequence[Any], show_progress: bool = False) -> tuple[float, Any]:
        results = {task.name: task.evaluate("valid") for task in tasks}
        scores = [calculate_valid_score(r, self.valid_metric) for r in results.values()]
        return float(np.mean(scores)), results
