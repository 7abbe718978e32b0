"""Runs as processes of their own, several at once; none outlives the process that started it."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Generic, TypeVar

from recbole_llm.core.errors import one_line
from recbole_llm.tasks.compare.executors import Executor, Started
from recbole_llm.tasks.compare.live import Live

T = TypeVar("T")
SCORES, OUTPUT = "scores.txt", "output.txt"  # files of a run, in its folder
_PAUSE = 0.2  # seconds between two polls
_SIGKILL = 9  # Windows has no such name
# Called with a validation's number, from 1, and its score; whether to stop the run.
OnValidation = Callable[[int, float], bool]


@dataclass(frozen=True)
class Job(Generic[T]):
    """A run to be carried out."""

    payload: T  # the caller's own
    label: str  # of its model
    name: str  # of the run, beside its model
    command: Sequence[str]  # subcommand and arguments of ``recbole-llm``
    folder: Path  # of its files; created if missing
    on_validation: OnValidation = lambda number, score: False  # called after each one
    gpus: str = "0"  # those that it may use, as `gpu_id` names them; "": none


@dataclass(frozen=True)
class Outcome(Generic[T]):
    """How a job ended: well, stopped by `Job.on_validation`, or with an error in one line."""

    job: Job[T]
    seconds: float
    error: str | None = None
    stopped: bool = False


@dataclass
class _Running(Generic[T]):
    job: Job[T]
    process: Started
    start: float = field(default_factory=time.monotonic)
    n_scores: int = 0

    def report_scores(self, live: Live) -> bool:
        """Report new validations; returns whether the run is to stop."""
        file = self.job.folder / SCORES
        # A line without its end is still being written.
        lines = file.read_text("utf-8").splitlines(keepends=True) if file.is_file() else []
        scores = [float(line) for line in lines if line.endswith("\n")]
        for score in scores[self.n_scores :]:
            self.n_scores += 1
            live.note_validation(self.job.label, self.job.name, self.n_scores, score)
            if self.job.on_validation(self.n_scores, score):
                return True
        return False

    def kill(self) -> None:
        """Kill the process, and wait until it has ended."""
        self.process.kill()
        self.process.wait()

    def outcome(self, status: int | str, stopped: bool = False) -> Outcome[T]:
        error = status if isinstance(status, str) else None
        if isinstance(status, int) and status != 0:
            error = _error_line(self.job.folder / OUTPUT, status)
        return Outcome(self.job, time.monotonic() - self.start, error, stopped)


def run_jobs(
    jobs: Iterator[Job[T]], executor: Executor, live: Live
) -> Generator[Outcome[T], None, None]:
    """Run jobs, several at once; each is taken from `jobs` only when there is room for it. Yields
    the outcome of each as it ends. Jobs that run when the generator is closed are killed.
    """
    running: list[_Running[T]] = []
    try:
        while True:
            for job in islice(jobs, executor.at_once - len(running)):
                running.append(_start(job, executor))
                live.start_run(job.label, job.name)
            if not running:
                return
            for one in list(running):
                status = one.process.poll()
                stopped = one.report_scores(live) and status is None
                if stopped:
                    one.kill()
                if stopped or status is not None:
                    running.remove(one)
                    yield one.outcome(status or 0, stopped)
            live.show()
            time.sleep(_PAUSE if running else 0)
    finally:
        for one in running:
            one.kill()


def _start(job: Job[T], executor: Executor) -> _Running[T]:
    job.folder.mkdir(parents=True, exist_ok=True)
    if not any(part.startswith("--resume=") for part in job.command):  # resumed runs continue it
        (job.folder / SCORES).unlink(missing_ok=True)
    return _Running(job, executor.start(command_of(job), job.folder / OUTPUT, job.gpus))


def command_of(job: Job[T]) -> list[str]:
    """The command line of a job's process."""
    return [sys.executable, "-m", "recbole_llm", "cell", str(job.folder / SCORES), *job.command]


def _error_line(file: Path, code: int) -> str:
    lines = [line for line in file.read_text("utf-8", "replace").splitlines() if line.strip()]
    said = [line.removeprefix("error: ") for line in lines if line.startswith("error: ")]
    if code < 0:
        # Linux and clusters kill processes that use too much memory.
        why = ", perhaps for lack of memory" if code == -_SIGKILL else ""
        return f"killed by signal {-code}{why}; {file} has its output"
    return one_line((said or lines or [f"status {code}"])[-1], 300)
