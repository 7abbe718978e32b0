"""Base class of the models that are trained in phases."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import ClassVar

import torch
from torch import Tensor, nn

from recbole_llm.core.errors import missing_method_error
from recbole_llm.layers.embedding import map_distinct
from recbole_llm.models.base import SequenceRecommender


class PhasedRecommender(SequenceRecommender):
    """A sequential recommender whose ``phase`` says which parts are trained and give scores.

    `recbole_llm.trainers.phased.PhasedTrainer` trains it. A subclass defines `phases`,
    `phase_summaries`, `phase_items` and `phase_parameters`, and sets ``phase`` when it is built.
    """

    other_parameter_name = ("phase",)  # in checkpoints, so that a loaded model scores the same
    phases: ClassVar[tuple[str, ...]]  # in order
    start_key: ClassVar[str | None] = None  # key of a checkpoint after whose phase a run starts
    _phase: str

    @property
    def phase(self) -> str:
        """The present phase, one of `phases`."""
        return self._phase

    @phase.setter
    def phase(self, name: str) -> None:
        if name not in self.phases:
            raise ValueError(f"phase '{name}' is not one of {', '.join(self.phases)}")
        self._phase = name
        self.forget_cached_items()

    def begin_phase(self, name: str) -> None:
        """Enter a phase at its start."""
        self.phase = name

    def phase_summaries(self) -> Mapping[str, str]:
        """Return {phase: one line for the log} of the phases that are trained, in order."""
        raise missing_method_error(self, "phase_summaries()")

    def phase_items(self, ids: Tensor) -> Tensor:
        """Vectors that the present phase's states are scored against: int [*] -> [*, D]."""
        raise missing_method_error(self, "phase_items(ids)")

    def item_vectors(self, ids: Tensor | None = None) -> Tensor:
        """`phase_items`, computed once per distinct id; None: of the whole catalogue, [n, D]."""
        if ids is not None:
            return map_distinct(self.phase_items, ids)
        device = next(self.parameters()).device
        return self.phase_items(torch.arange(self.n_items, device=device))

    def phase_parameters(self) -> Iterator[nn.Parameter]:
        """Parameters that the present phase trains."""
        raise missing_method_error(self, "phase_parameters()")
