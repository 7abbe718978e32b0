"""The trials of a search: where they are, and which of them count."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from optuna import Study
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


def is_repeated(study: Study, new: Trial) -> bool:
    """Whether these settings were tried before, or are now: one seed gives one score."""
    for trial in study.get_trials(deepcopy=False):
        now = trial.state == TrialState.RUNNING and trial.number != new.number
        if trial.params == new.params and (now or is_counted(trial)):
            study.tell(new, state=TrialState.FAIL)
            return True
    return False
