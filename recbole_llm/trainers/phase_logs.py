"""Training curves of models that train in phases: each phase has its own."""

from __future__ import annotations

from typing import Any


class PhaseWriter:
    """RecBole's TensorBoard writer, with the phase as a prefix of every tag."""

    def __init__(self, writer: Any, phase: str) -> None:
        self._writer = writer
        self._phase = phase

    def add_scalar(self, tag: str, value: float, step: int) -> None:
        self._writer.add_scalar(f"{self._phase}/{tag}", value, step)

    def add_hparams(self, *args: Any) -> None:
        self._writer.add_hparams(*args)


class PhaseBoard:
    """RecBole's wandb logger, with the phase before every metric name, but after the head, by which
    wandb finds the steps."""

    def __init__(self, board: Any, phase: str) -> None:
        self._board = board
        self._phase = phase

    def log_metrics(self, metrics: dict[str, Any], head: str) -> None:
        self._board.log_metrics(metrics, head=f"{head}/{self._phase}")

    def log_eval_metrics(self, metrics: dict[str, Any], head: str) -> None:
        self._board.log_eval_metrics(metrics, head=f"{head}/{self._phase}")
