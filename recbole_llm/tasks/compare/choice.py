"""The choice of a search's best settings, after the best trials were repeated with a second seed.

The best of several trials is also the luckiest one, above all at high learning rates, with which
some seeds train well and others not at all.
"""

from __future__ import annotations

import math
import shutil
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean

from optuna.trial import FrozenTrial, TrialState

from recbole_llm.core.digest import digest
from recbole_llm.data.settings import splits_at_random
from recbole_llm.tasks.compare.cells import read_best_score
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
    on until the best trial has two scores, so that only trials with a high score are repeated.

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
    scores = {number: [trial.values[0]] for number, trial in done.items()}
    while True:
        best = entry.better(scores, key=lambda number: fmean(scores[number]))
        if len(scores[best]) == 2:
            break
        scores[best].append(_repeat(done[best], entry, folder, executor, worst))
    score = scores[best][1]
    if score == worst:
        raise NoTrialError(f"{entry.label}: no trial ended well with a second seed")
    return Choice(done[best], score, _second_seed(entry))


def _second_seed(entry: Entry) -> int:
    seed: int = entry.config["seed"]
    return (seed + 1) % 2**32


def _repeat(
    trial: FrozenTrial, entry: Entry, folder: Path, executor: Executor, worst: float
) -> float:
    """The score of a trial's settings with the second seed; `worst` where the run fails."""
    tried = entry.with_own({**trial.params, "seed": _second_seed(entry)})
    if splits_at_random(entry.config) and entry.config["split_seed"] is None:
        # Another split would validate on interactions that the first split tests.
        tried = tried.with_own({"split_seed": entry.config["seed"]})
    own = folder / f"{_second_seed(entry)}-{digest(str(sorted(trial.params.items())))[:10]}"
    if not (own / "result.json").is_file():
        name = f"trial {trial.number} with seed {_second_seed(entry)}"
        if not _run(tried, name, own, executor):
            return worst
    shutil.rmtree(own / "saved", ignore_errors=True)  # only its score is needed
    score = read_best_score(own)
    return score if math.isfinite(score) else worst


def _run(tried: Entry, name: str, folder: Path, executor: Executor) -> bool:
    """Train and validate once; returns whether the run ended well."""
    with closing(Live([tried.label], 1, 1)) as live:

        def heard(number: int, score: float) -> bool:
            live.show_validation(tried.label, name, number, score)
            return False

        live.start_run(tried.label, name)
        job = Job(None, trial_command(tried, folder), folder, heard, tried.config["gpu_id"])
        with closing(run_jobs(iter([job]), executor, live.show)) as outcomes:
            (outcome,) = outcomes
        score = None if outcome.error else read_best_score(folder)
        live.end_run(tried.label, name, outcome.seconds, score, f"failed: {outcome.error}")
    return outcome.error is None
