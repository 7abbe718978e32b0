"""The trials of a search: where they are, and which of them count."""

from __future__ import annotations

from pathlib import Path

from optuna import Study
from optuna.trial import FrozenTrial, Trial, TrialState

ERROR = "error"  # attribute of a trial that failed by itself
PLACE = "folder"  # of one that goes on where another was cut off


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
