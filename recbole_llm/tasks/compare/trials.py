"""The trials of a search: where they are, and which of them count."""

from __future__ import annotations

import math
import random
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from optuna import Study
from optuna.distributions import BaseDistribution, CategoricalDistribution
from optuna.exceptions import StorageInternalError
from optuna.trial import FrozenTrial, Trial, TrialState
from sqlalchemy.exc import SQLAlchemyError

from recbole_llm.core.errors import one_line
from recbole_llm.core.files import OTHER_FOLDER

ERROR = "error"  # attribute of a trial that failed by itself
PLACE = "folder"  # of one that goes on where another was cut off


@contextmanager
def kept_in(file: Path) -> Iterator[None]:
    """Within it trials are read and written there; ValueError, in one line, where that fails."""
    try:
        yield
    except (StorageInternalError, SQLAlchemyError) as error:
        cause = error if isinstance(error, SQLAlchemyError) else error.__cause__
        reason = one_line(getattr(cause, "orig", None) or cause or error)
        raise ValueError(
            f"'{file}', where the trials are, cannot be read or written ({reason}); free some "
            f"space if the disk is full; if the file is damaged remove it, and the search begins "
            f"anew; or {OTHER_FOLDER}"
        ) from error


def place(folder: Path, trial: Trial | FrozenTrial) -> Path:
    return folder / trial.user_attrs.get(PLACE, str(trial.number))


def running(study: Study) -> list[FrozenTrial]:
    return study.get_trials(deepcopy=False, states=(TrialState.RUNNING,))


def counted(study: Study) -> list[FrozenTrial]:
    return [trial for trial in study.get_trials(deepcopy=False) if is_counted(trial)]


def is_counted(trial: FrozenTrial) -> bool:
    """Whether a trial used up some of the budget: not if it was cut off, or never begun."""
    return trial.state in (TrialState.COMPLETE, TrialState.PRUNED) or ERROR in trial.user_attrs


def seconds_of(trial: FrozenTrial, folder: Path) -> float:
    """How long a trial took: until its result, of which a later command may have heard first."""
    assert trial.datetime_start is not None and trial.datetime_complete is not None
    result = place(folder, trial) / "result.json"
    told = trial.datetime_complete.timestamp()
    ended = result.stat().st_mtime if result.is_file() else told
    return ended - trial.datetime_start.timestamp()


def ask(study: Study, space: Mapping[str, BaseDistribution], seed: int) -> Trial | None:
    """A trial of settings that were not tried before, since one seed gives one score; None where
    all were, or are now."""
    choices = [w.choices for w in space.values() if isinstance(w, CategoricalDistribution)]
    listed = len(choices) == len(space)
    most = math.prod(len(set(c)) for c in choices) if listed else math.inf
    while len(taken := _taken(study)) < most:
        new = study.ask(dict(space))
        if _settings(new.params) not in taken:
            return new
        study.tell(new, state=TrialState.FAIL)
        if listed:  # the sampler may propose its favourites for ever
            drawn = random.Random(seed + new.number)
            study.enqueue_trial(_untried(dict(zip(space, choices)), taken, drawn))
    return None


def _taken(study: Study) -> set[frozenset[Any]]:
    return {_settings(trial.params) for trial in (*counted(study), *running(study))}


def _settings(params: Mapping[str, Any]) -> frozenset[Any]:
    return frozenset(params.items())


def _untried(
    choices: Mapping[str, tuple[Any, ...]], taken: set[frozenset[Any]], drawn: random.Random
) -> dict[str, Any]:
    """One of the settings that are left, of which there are some."""
    while True:
        settings = {key: drawn.choice(where) for key, where in choices.items()}
        if _settings(settings) not in taken:
            return settings
