"""The choice of a search's best settings, after the best trials were repeated with a second seed.

The best of several trials is also the luckiest one, above all at high learning rates, with which
some seeds train well and others not at all.
"""

from __future__ import annotations

import math
import shutil
from collections.abc import Generator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean

from optuna.trial import FrozenTrial, TrialState

from recbole_llm.core.digest import digest
from recbole_llm.data.settings import splits_at_random
from recbole_llm.tasks.compare.cells import read_best_score, read_outcome
from recbole_llm.tasks.compare.entries import Entry
from recbole_llm.tasks.compare.executors import Executor
from recbole_llm.tasks.compare.live import Live
from recbole_llm.tasks.compare.pool import Job, run_jobs
from recbole_llm.tasks.compare.trials import ERROR, trial_command


class NoTrialError(ValueError):
    """No trial ended well."""


@dataclass(frozen=True)
class Choice:
    """The settings that a search chose."""

    trial: FrozenTrial
    second: float | None = None  # its score with the second seed; None: it was the only trial
    seed: int = 0  # the second seed

    @property
    def score(self) -> float:
        """The mean score on validation, over the seeds that the trial was run with."""
        first: float = self.trial.values[0]
        return first if self.second is None else fmean([first, self.second])

    @property
    def scores(self) -> str:
        """The scores on validation, in words."""
        more = "" if self.second is None else f", {self.second:.4f} with seed {self.seed}"
        return f"{self.trial.value:.4f}{more}"


def choose_trial(
    trials: Sequence[FrozenTrial], entry: Entry, folder: Path, executor: Executor
) -> Choice:
    """Choose the best trial by its mean score over two seeds.

    The best trial is repeated with the next seed, and counts with its mean from then on. This goes
    on until the best trial has two scores, so that only trials with a good score are repeated. The
    executor also begins the next trials if it has room: their scores count when it is their turn,
    so that the choice does not depend on the number of runs at once.

    Args:
        folder: folder of the trials; a repeated trial that is already there is not run again.

    Raises:
        NoTrialError: no trial ended well with the first seed, or none with the second one.
    """
    done = {t.number: t for t in trials if t.state == TrialState.COMPLETE}
    if not done:
        errors = sorted({trial.user_attrs.get(ERROR, "") for trial in trials} - {""})
        raise NoTrialError(f"{entry.label}: no trial ended well: {'; '.join(errors)}")
    if len(done) == 1:
        return Choice(next(iter(done.values())))
    worst = -math.inf if entry.better is max else math.inf
    again = _with_next_seed(entry)
    scores = {number: [trial.values[0]] for number, trial in done.items()}
    in_turn = sorted(done, key=lambda n: scores[n][0], reverse=entry.better is max)
    with closing(_repeat([done[n] for n in in_turn], again, folder, executor)) as repeats:
        second: dict[int, float] = {}
        while len(scores[best := entry.better(scores, key=lambda n: fmean(scores[n]))]) < 2:
            while best not in second:
                number, score = next(repeats)
                second[number] = score if math.isfinite(score) else worst
            scores[best].append(second[best])
    for trial in done.values():  # only scores are needed from here on
        shutil.rmtree(_repeat_folder(trial, again, folder) / "saved", ignore_errors=True)
    if second[best] == worst:
        raise NoTrialError(f"{entry.label}: no trial ended well with a second seed")
    return Choice(done[best], second[best], again.config["seed"])


def _with_next_seed(entry: Entry) -> Entry:
    seed = entry.config["seed"]
    again = entry.with_own({"seed": (seed + 1) % 2**32})
    if splits_at_random(entry.config) and entry.config["split_seed"] is None:
        # Another split would validate on interactions that the first split tests.
        again = again.with_own({"split_seed": seed})
    return again


def _repeat(
    trials: Sequence[FrozenTrial], again: Entry, folder: Path, executor: Executor
) -> Generator[tuple[int, float], None, None]:
    """Repeat trials in their order, and yield the number and the score of each, NaN for a run that
    failed. Trials that are not asked for are begun only if the executor has room."""
    own = {trial.number: _repeat_folder(trial, again, folder) for trial in trials}
    new = [trial for trial in trials if not (own[trial.number] / "result.json").is_file()]
    yield from ((t.number, read_best_score(own[t.number])) for t in trials if t not in new)
    jobs = (_repeat_job(trial, again, own[trial.number]) for trial in new)
    with (
        closing(Live([again.label], 0, executor.at_once)) as live,
        closing(run_jobs(jobs, executor, live)) as outcomes,
    ):
        for outcome in outcomes:
            (score, why), job = read_outcome(outcome), outcome.job
            live.end_run(job.label, job.name, outcome.seconds, score, f"failed: {why}")
            yield job.payload.number, math.nan if score is None else score


def _repeat_folder(trial: FrozenTrial, again: Entry, folder: Path) -> Path:
    return folder / f"{again.config['seed']}-{digest(str(sorted(trial.params.items())))[:10]}"


def _repeat_job(trial: FrozenTrial, again: Entry, folder: Path) -> Job[FrozenTrial]:
    name = f"trial {trial.number} with seed {again.config['seed']}"
    command = trial_command(again.with_own(trial.params), folder)
    return Job(trial, again.label, name, command, folder, gpus=again.config["gpu_id"])
