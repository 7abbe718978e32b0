"""Progress of a comparison on the screen: one line per model, and the time left."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

from tqdm import tqdm

from recbole_llm.trainers.progress import duration


@dataclass
class _Line:
    label: str
    runs: int
    best: Callable[[Iterable[float]], float] | None
    scores: list[float] = field(default_factory=list)  # on validation, of finished runs
    failed: int = 0
    seconds: list[float] = field(default_factory=list)  # of finished runs
    running: dict[str, tuple[float, str]] = field(default_factory=dict)  # start, last state

    def __str__(self) -> str:
        parts = [f"{len(self.scores)} of {self.runs} done"]
        if self.failed:
            parts.append(f"{self.failed} without result")
        if self.scores:
            name, of_all = ("best", self.best) if self.best else ("mean", statistics.mean)
            parts.append(f"{name} {of_all(self.scores):.4f}")
        parts += [f"{name}: {state}" for name, (_, state) in self.running.items()]
        return ", ".join(parts)


class Live:
    """A table on the screen, if it is a terminal; a line for each finished run is always written.

    Args:
        runs: expected number of runs of each model; there may be more.
        what: the word for a run.
        best: chooses the score to show; None: the mean is shown.
    """

    def __init__(
        self,
        labels: Sequence[str],
        runs: int,
        at_once: int,
        what: str = "run",
        best: Callable[[Iterable[float]], float] | None = None,
    ) -> None:
        self._lines = {label: _Line(label, runs, best) for label in labels}
        self._at_once, self._what = at_once, what
        self._width = min(max(map(len, labels)), 40)
        self._bars = [
            tqdm(bar_format="{desc}", position=i, leave=False, disable=None, dynamic_ncols=True)
            for i in range(len(labels) + 1)
        ]

    def start_run(self, label: str, name: str) -> None:
        """Note that a run begins."""
        line = self._lines[label]
        line.running[name] = (time.monotonic(), "starts")
        line.runs = max(line.runs, len(line.scores) + line.failed + len(line.running))

    def note_validation(self, label: str, name: str, number: int, score: float) -> None:
        """Note the score of a validation of a run that began."""
        start, _ = self._lines[label].running[name]
        self._lines[label].running[name] = (start, f"validation {number} {score:.4f}")

    def end_run(
        self, label: str, name: str, seconds: float, score: float | None, why: str = ""
    ) -> None:
        """Note the end of a run, with its best score; or with None for no result, and why."""
        self.count_run(label, seconds, score)
        self._lines[label].running.pop(name, None)
        left = self.seconds_left()
        outlook = f"; about {duration(left)} left" if left else ""
        result = why if score is None else f"best {score:.4f} on validation"
        tqdm.write(f"{label}, {name}: {result}, {duration(seconds)}{outlook}")

    def count_run(self, label: str, seconds: float, score: float | None) -> None:
        """Count a run that ended now or earlier, with its best score, or None for no result."""
        line = self._lines[label]
        if score is None:
            line.failed += 1
        else:
            line.scores.append(score)
            line.seconds.append(seconds)

    def seconds_left(self) -> float:
        """Estimated seconds of the remaining runs, by the finished ones; 0 if none is finished."""
        known = [s for line in self._lines.values() for s in line.seconds]
        if not known:
            return 0.0
        total, now = 0.0, time.monotonic()
        for line in self._lines.values():
            each = statistics.mean(line.seconds or known)
            spent = [min(now - start, each) for start, _ in line.running.values()]
            total += each * (line.runs - len(line.scores) - line.failed) - sum(spent)
        return total / self._at_once

    def show(self) -> None:
        """Update the table."""
        if self._bars[0].disable:
            return
        for bar, line in zip(self._bars, self._lines.values()):
            bar.set_description_str(f"{line.label[: self._width]:{self._width}}  {line}")
        done = sum(len(line.scores) + line.failed for line in self._lines.values())
        runs, left = sum(line.runs for line in self._lines.values()), self.seconds_left()
        outlook = f", about {duration(left)} left" if left else ""
        self._bars[-1].set_description_str(f"{done} of {runs} {self._what}s{outlook}")

    def close(self) -> None:
        """Take the table off the screen."""
        for bar in self._bars:
            bar.close()
