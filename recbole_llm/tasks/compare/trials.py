"""The trials of a search: where they are, and which of them count."""

from __future__ import annotations

import math
import random
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

from optuna import Study
from optuna.distributions import BaseDistribution, CategoricalDistribution
from optuna.exceptions import StorageInternalError
from optuna.storages import RDBStorage
from optuna.trial import FrozenTrial, Trial, TrialState
from sqlalchemy.exc import SQLAlchemyError

from recbole_llm.core.errors import one_line
from recbole_llm.core.files import OTHER_FOLDER
from recbole_llm.tasks.compare.cells import resume_arguments
from recbole_llm.tasks.compare.entries import Entry, run_arguments

ERROR = "error"  # attribute of a trial that failed by itself
FOLDER = "folder"  # attribute of a trial that resumes another in its folder


@contextmanager
def storage_errors(file: Path) -> Iterator[None]:
    """Raise ValueError, in one line, where trials cannot be read from the file or written to it."""
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


def open_storage(file: Path) -> RDBStorage:
    """Open or create the file of the trials.

    Raises:
        ValueError: in one line: another version of Optuna wrote it.
    """
    try:
        return RDBStorage(f"sqlite:///{quote(str(file.absolute()))}")
    except RuntimeError as error:
        raise ValueError(
            f"'{file}', where the trials are, was written by another version of Optuna; use that "
            f"version, or {OTHER_FOLDER} ({one_line(error)})"
        ) from error


def trial_folder(folder: Path, trial: Trial | FrozenTrial) -> Path:
    return folder / trial.user_attrs.get(FOLDER, str(trial.number))


def trial_command(tried: Entry, folder: Path) -> list[str]:
    """The command of a run that only reports its score; a run that was stopped is resumed."""
    files = [f"--output={folder / 'result.json'}", f"--checkpoint_dir={folder / 'saved'}"]
    return ["trial", *run_arguments(tried), *files, *resume_arguments(folder, tried.config)]


def running_trials(study: Study) -> list[FrozenTrial]:
    return study.get_trials(deepcopy=False, states=(TrialState.RUNNING,))


def counted_trials(study: Study) -> list[FrozenTrial]:
    return [trial for trial in study.get_trials(deepcopy=False) if is_counted(trial)]


def is_counted(trial: FrozenTrial) -> bool:
    """Whether a trial counts toward the budget: not if it was interrupted, or never begun."""
    return trial.state in (TrialState.COMPLETE, TrialState.PRUNED) or ERROR in trial.user_attrs


def trial_seconds(trial: FrozenTrial, folder: Path) -> float:
    """Seconds from a trial's start to its result, which perhaps only a later command recorded."""
    assert trial.datetime_start is not None and trial.datetime_complete is not None
    result = trial_folder(folder, trial) / "result.json"
    recorded = trial.datetime_complete.timestamp()
    end = result.stat().st_mtime if result.is_file() else recorded
    return end - trial.datetime_start.timestamp()


def ask_new_trial(study: Study, space: Mapping[str, BaseDistribution], seed: int) -> Trial | None:
    """Ask for a trial of untried settings, since the same seed would give the same score again;
    None if all settings were tried, or are running."""
    choices = {k: w.choices for k, w in space.items() if isinstance(w, CategoricalDistribution)}
    most = count_settings(space)
    while len(tried := _tried_settings(study)) < most:
        new = study.ask(dict(space))
        if _settings_key(new.params) not in tried:
            return new
        study.tell(new, state=TrialState.FAIL)
        if most < math.inf:  # the sampler may repeat its favorites forever
            generator = random.Random(seed + new.number)
            study.enqueue_trial(_draw_untried(choices, tried, generator))
    return None


def count_settings(space: Mapping[str, BaseDistribution]) -> float:
    """The number of settings in a space; infinite if a key has a range."""
    choices = [w.choices for w in space.values() if isinstance(w, CategoricalDistribution)]
    return math.prod(len(set(c)) for c in choices) if len(choices) == len(space) else math.inf


def _tried_settings(study: Study) -> set[frozenset[Any]]:
    return {
        _settings_key(trial.params) for trial in (*counted_trials(study), *running_trials(study))
    }


def _settings_key(params: Mapping[str, Any]) -> frozenset[Any]:
    return frozenset(params.items())


def _draw_untried(
    choices: Mapping[str, tuple[Any, ...]], tried: set[frozenset[Any]], generator: random.Random
) -> dict[str, Any]:
    """Draw untried settings; some must be left."""
    while True:
        settings = {key: generator.choice(where) for key, where in choices.items()}
        if _settings_key(settings) not in tried:
            return settings
