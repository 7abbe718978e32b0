"""Base class of the models that are trained in phases."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import ClassVar

import torch
from torch import Tensor, nn

from recbole_llm.layers.embedding import map_distinct
from recbole_llm.models.base import SequenceRecommender


class PhasedRecommender(SequenceRecommender):
    """A sequential recommender whose ``phase`` says which of its parts are trained and score.

    `recbole_llm.trainers.phased.PhasedTrainer` trains it. A subclass gives `phases`, sets
    ``phase`` when it is made, and gives `phase_summaries` and `phase_parameters`.
    """

    other_parameter_name = ("phase",)  # goes into checkpoints, so that a loaded model scores alike
    phases: ClassVar[tuple[str, ...]]  # in order
    start_key: ClassVar[str | None] = None  # of a checkpoint whose phase the first one follows
    _phase: str

    @property
    def phase(self) -> str:
        """One of `phases`."""
        return self._phase

    @phase.setter
    def phase(self, name: str) -> None:
        if name not in self.phases:
            raise ValueError(f"phase '{name}' is none of {', '.join(self.phases)}")
        self._phase = name
        self.forget_cached_items()

    def begin_phase(self, name: str) -> None:
        """Enter a phase at its start."""
        self.phase = name

    def phase_summaries(self) -> Mapping[str, str]:
        """{phase: what it does, one line for the log}, of those that are trained, in order."""
        raise NotImplementedError

    def phase_items(self, ids: Tensor) -> Tensor:
        """Vectors that the present phase's states are scored against: int [*] -> [*, D]."""
        raise NotImplementedError

    def item_vectors(self, ids: Tensor | None = None) -> Tensor:
        """`phase_items`, each distinct one once; None: of the whole catalogue, [n, D]."""
        if ids is not None:
            return map_distinct(self.phase_items, ids)
        device = next(self.parameters()).device
        return self.phase_items(torch.arange(self.n_items, device=device))

    def phase_parameters(self) -> Iterator[nn.Parameter]:
        """Parameters that the present phase trains."""
        raise NotImplementedError
