"""Progress of a training: one line on the screen, and its figures for the report."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from typing import Any

from torch.optim import Optimizer
from tqdm import tqdm

from recbole_llm.core.lines import is_terminal
from recbole_llm.core.log import show

_EVERY = 0.2  # seconds between two updates of the line


@dataclass
class Training:
    """One training, such as a phase: epochs count from 1."""

    name: str  # of the phase; "" if there is only one training
    limit: int  # epochs at most
    patience: int  # validations without improvement after which it stops
    epoch: int = 0  # the current one, at the end the last
    best_epoch: int = 0  # 0 before the first validation
    best_score: float = float("nan")  # at that epoch
    score: float = float("nan")
    done: int = 0  # epochs that the seconds cover
    worse: int = 0  # validations since the best
    train_seconds: float = 0.0
    valid_seconds: float = 0.0
    # epoch, seconds spent and score of each validation
    curve: list[tuple[int, float, float]] = field(default_factory=list)

    def seconds_left(self, part: float = 1.0) -> float:
        """Seconds left at most, with `part` of the current epoch done; 0 until the first epoch is
        done."""
        spent = self.train_seconds + self.valid_seconds
        return spent / max(self.done, 1) * (self.limit - self.epoch + 1 - part)


class Progress:
    """Progress of a run, which its trainer reports here; `metric` picks the best epoch."""

    def __init__(self, metric: str) -> None:
        self.metric = metric
        self.shown = False  # whether to show a line on the screen, if it is a terminal
        self.trainings: list[Training] = []
        self.before = 0.0  # seconds of a resumed run's trainings before it was stopped
        self._stopped: Training | None = None  # the training to resume
        self._bar: tqdm[object] | None = None
        self._last = 0.0

    def state(self) -> list[dict[str, Any]]:
        """All trainings as plain data."""
        return [asdict(training) for training in self.trainings]

    def restore(self, state: Sequence[Mapping[str, Any]]) -> None:
        """Restore what `state` returned, to go on within the last training.

        Raises:
            ValueError: `state` has another form.
        """
        try:
            kept = [Training(**one) for one in state]
            *self.trainings, self._stopped = kept
        except (TypeError, ValueError) as error:
            raise ValueError("resume: the file does not say what its trainings were") from error
        self.before = sum(one.train_seconds + one.valid_seconds for one in kept)

    @contextmanager
    def training(
        self,
        *,
        name: str,
        limit: int,
        patience: int,
        first_epoch: int = 0,
        best: tuple[int, float] = (0, float("nan")),
    ) -> Iterator[None]:
        """Context of one training, which starts at an epoch (0 is the first) or resumes the stopped
        one; `best` is the best epoch so far, 0 if there is none, and its score."""
        now = self._stopped or Training(name, limit, patience, first_epoch, *best)
        self._stopped, now.limit, now.patience = None, limit, patience
        self.trainings.append(now)
        hidden = not (self.shown and is_terminal(sys.stderr))
        bar = tqdm(bar_format="{desc}", leave=False, dynamic_ncols=True, disable=hidden)
        self._bar = bar
        try:
            yield
        finally:
            bar.close()
            self._bar = None
        if self.shown and now.epoch:  # decision trees have no epochs
            show(self._summary(now))

    @contextmanager
    def epoch(self, index: int, steps: int, optimizer: Optimizer) -> Iterator[None]:
        """Context of the training of one epoch, which counts the steps of the optimizer."""
        now = self._present_training()
        now.epoch = index + 1
        self._show(now, "", 0.0)
        step = 0

        def count(*_: object) -> None:
            nonlocal step
            step += 1
            if time.monotonic() - self._last > _EVERY:
                part = min(step / max(steps, 1), 1)
                self._show(now, f"{part:.0%}", part)

        hook = optimizer.register_step_post_hook(count)
        start = time.perf_counter()
        try:
            yield
        finally:
            hook.remove()
        now.train_seconds += time.perf_counter() - start
        now.done += 1

    @contextmanager
    def validation(self) -> Iterator[None]:
        """Context of one evaluation on validation."""
        now = self._present_training()
        self._show(now, "validation")
        start = time.perf_counter()
        yield
        now.valid_seconds += time.perf_counter() - start

    @property
    def validations(self) -> int:
        """Number of validations so far, in all trainings, including those before a stop."""
        return sum(len(training.curve) for training in self.trainings)

    def validated(self, score: float, improved: bool) -> None:
        """Record the score of the current epoch, and whether it is the best."""
        now = self._present_training()
        now.score, now.worse = score, 0 if improved else now.worse + 1
        spent = sum(t.train_seconds + t.valid_seconds for t in self.trainings)
        now.curve.append((now.epoch, round(spent, 3), float(score)))
        if improved:
            now.best_epoch, now.best_score = now.epoch, score
        self._show(now, "")

    def _present_training(self) -> Training:
        """The current training; a new one for an evaluation outside of any training."""
        if not self.trainings:
            self.trainings.append(Training("", 1, 0))
        return self.trainings[-1]

    def _show(self, now: Training, doing: str, part: float = 1.0) -> None:
        self._last = time.monotonic()
        if self._bar is not None and not self._bar.disable:
            self._bar.set_description_str(self._line(now, doing, part))

    def _line(self, now: Training, doing: str, part: float = 1.0) -> str:
        parts = [" ".join(filter(None, (now.name, f"epoch {now.epoch} of at most {now.limit}")))]
        parts += [doing] if doing else []
        if now.best_epoch:
            best = f"best {now.best_score:.4f} in epoch {now.best_epoch}"
            parts.append(f"{self.metric} {now.score:.4f}, {best}")
        if now.worse:
            parts.append(f"stops after {now.patience - now.worse + 1} more without improvement")
        if now.done:
            parts.append(f"at most {duration(now.seconds_left(part))} left")
        return " | ".join(parts)

    def _summary(self, now: Training) -> str:
        spent = duration(now.train_seconds + now.valid_seconds)
        best = (
            f"; best {self.metric} {now.best_score:.4f} in epoch {now.best_epoch}"
            if now.best_epoch
            else ""
        )
        many = "" if now.epoch == 1 else "s"
        return f"{now.name or 'training':<11} {now.epoch} epoch{many} in {spent}{best}"


def duration(seconds: float) -> str:
    """``7 s``, ``3 min 20 s``, ``2 h 5 min``."""
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest} s" if minutes else f"{rest} s"
    return f"{minutes // 60} h {minutes % 60} min"
