"""Base class of the models that are trained in phases."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import ClassVar

from torch import nn

from recbole_llm.models.base import SequenceRecommender


class PhasedRecommender(SequenceRecommender):
    """A sequential recommender whose ``phase`` says which of its parts are trained and score.

    `recbole_llm.trainers.staged.StagedTrainer` trains it. A subclass gives `phases`, sets
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
        self._cached_items = None

    def begin_phase(self, name: str) -> None:
        """Enter a phase at its start."""
        self.phase = name

    def phase_summaries(self) -> Mapping[str, str]:
        """{phase: what it does, one line for the log}, of those that are trained, in order."""
        raise NotImplementedError

    def phase_parameters(self) -> Iterator[nn.Parameter]:
        """Parameters that the present phase trains."""
        raise NotImplementedError
