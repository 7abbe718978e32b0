"""Search for a model's settings on validation, by Optuna; a stopped search can be continued."""

from __future__ import annotations

import math
import shutil
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path

import yaml
from click import echo
from tqdm import tqdm

from recbole_llm.core import lines
from recbole_llm.core.checks import text_keys
from recbole_llm.core.digest import digest
from recbole_llm.core.errors import optional_imports
from recbole_llm.core.files import OTHER_FOLDER, write_whole
from recbole_llm.core.schema import parse_values
from recbole_llm.core.settings import Space
from recbole_llm.models.phased import PhasedRecommender
from recbole_llm.tasks.compare.cells import read_best_score, read_outcome
from recbole_llm.tasks.compare.entries import Entry
from recbole_llm.tasks.compare.executors import Executor
from recbole_llm.tasks.compare.keys import run_key
from recbole_llm.tasks.compare.live import Live
from recbole_llm.tasks.compare.pool import Job, Outcome, run_jobs
from recbole_llm.tasks.compare.space import (
    defaults,
    describe_untried_defaults,
    distributions,
    offered_space,
    resolve_space,
)

with optional_imports("tuning"):
    import optuna
    from optuna import Study
    from optuna.trial import Trial, TrialState

    from recbole_llm.tasks.compare.choice import Choice, choose_trial
    from recbole_llm.tasks.compare.choice import NoTrialError as NoTrialError
    from recbole_llm.tasks.compare.trials import (
        ERROR,
        FOLDER,
        ask_new_trial,
        count_settings,
        counted_trials,
        open_storage,
        running_trials,
        storage_errors,
        trial_command,
        trial_folder,
        trial_seconds,
    )

_STORAGE = "tuning.db"  # the file of all trials
# Percentage that goes on, trials before pruning, first validation to prune at: slow starts may win.
_PRUNING = (75.0, 4, 5)
_MIN_RIVALS = 4  # minimum of trials with as many validations: one survivor is no measure


def tune_entries(
    entries: Sequence[Entry], trials: int, seed: int, root: Path, executor: Executor
) -> tuple[list[Entry], dict[str, str]]:
    """Search the settings of each entry with the same budget and seed, and print what is found;
    returns the entries with their best settings, and {label: reason} of the searches that failed.
    """
    tuned, failed = {entry.label: entry for entry in entries}, {}
    searched = [entry for entry in entries if offered_space(entry.config, entry.config.spec)]
    for entry in searched:
        resolve_space(entry)  # fails here rather than after other searches
    for entry in entries:
        if entry not in searched:
            echo(f"{entry.label}: nothing to search; it runs as it is")
            continue
        try:
            best, file = search_settings(entry.with_own({"seed": seed}), trials, root, executor)
        except NoTrialError as error:
            echo(str(error))
            failed[entry.label] = str(error).removeprefix(f"{entry.label}: ")
            continue
        for line in report_lines(best, file):
            echo(f"{entry.label}: {line}")
        tuned[entry.label] = entry.with_own(best.trial.params)
    return list(tuned.values()), failed


def report_lines(best: Choice, file: Path) -> Iterator[str]:
    """Describe what a search chose, in lines."""
    params, number = best.trial.params, best.trial.number
    shown = {key: f"{v:.4g}" if isinstance(v, float) else v for key, v in params.items()}
    settings = " ".join(f"--{key}={value}" for key, value in shown.items())
    yield f"best of validation {best.scores} (trial {number}): {settings}"
    yield f"written  {file}"


def search_settings(
    entry: Entry, trials: int, root: Path, executor: Executor, search: str | None = None
) -> tuple[Choice, Path]:
    """Search until there are `trials` trials, choose among the first `trials`, and write the chosen
    settings to a file.

    The folder must exist, and be locked against other searches (`lock_folder`).

    Raises:
        NoTrialError: no trial ended well.
    """
    if trials < 1:
        raise ValueError(f"a search needs at least 1 trial, got {trials}")
    space = resolve_space(entry, search)
    keys = run_key(entry.config)[:10], digest(str(sorted(space.items())))[:6]
    name = "-".join([entry.config["model"], *keys])  # a key set to its default leaves the space
    for line in describe_untried_defaults(space, entry.config):
        tqdm.write(f"{entry.label}: {line}")
    planned = int(min(trials, count_settings(distributions(space))))
    live = Live([entry.label], planned, executor.at_once, "trial", entry.better)
    folder = root / "trials" / name
    with storage_errors(root / _STORAGE), closing(live):
        study = _open_study(name, entry, space, root, executor.at_once)
        _requeue_orphans(study, folder)
        jobs = _new_jobs(study, entry, space, folder, trials, live)
        with closing(run_jobs(jobs, executor, live)) as outcomes:
            for outcome in outcomes:
                _record_outcome(study, outcome, live)
        first = counted_trials(study)[:trials]  # an earlier search in the folder may have made more
        if len(first) < trials:
            tqdm.write(f"{entry.label}: all {len(first)} settings of the search were tried")
        best = choose_trial(first, entry, folder, executor)
    return best, _write_best(root / "tuned" / f"{name}.yaml", entry, best, len(first))


def _record_outcome(study: Study, outcome: Outcome[Trial], live: Live) -> None:
    """Record in the study, and in the table, how a trial ended."""
    job, trial = outcome.job, outcome.job.payload
    shutil.rmtree(job.folder / "saved", ignore_errors=True)  # only its score is needed
    score: float | None = None
    why = "stopped early"
    if outcome.stopped:
        study.tell(trial, state=TrialState.PRUNED)
    else:
        score, error = read_outcome(outcome)
        why = f"failed: {error}"
        if score is None:
            trial.set_user_attr(ERROR, error)
        study.tell(trial, score, TrialState.FAIL if score is None else None)
    live.end_run(job.label, job.name, outcome.seconds, score, why)


def _open_study(name: str, entry: Entry, space: Space, root: Path, at_once: int) -> Study:
    """Open or create the study of this name; its first trial has the defaults."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(
        storage=open_storage(root / _STORAGE),
        study_name=name,
        load_if_exists=True,
        direction="maximize" if entry.config["valid_metric_bigger"] else "minimize",
        pruner=optuna.pruners.PercentilePruner(*_PRUNING, n_min_trials=_MIN_RIVALS),
    )
    before = len(study.get_trials(deepcopy=False))  # the same seed would draw these again
    study.sampler = optuna.samplers.TPESampler(
        seed=entry.config["seed"] + before, constant_liar=at_once > 1
    )
    if not before:
        study.enqueue_trial(defaults(space, entry.config))
    return study


def _requeue_orphans(study: Study, folder: Path) -> None:
    """Record finished trials of a command that is gone; queue its others to resume as they were."""
    for trial in running_trials(study):
        own = trial_folder(folder, trial)
        score = read_best_score(own) if (own / "result.json").is_file() else math.nan
        if math.isfinite(score):
            shutil.rmtree(own / "saved", ignore_errors=True)
            study.tell(trial.number, score)
            continue
        drawn = {**trial.system_attrs.get("fixed_params", {}), **trial.params}  # some or all keys
        study.enqueue_trial(drawn, {FOLDER: own.name})
        study.tell(trial.number, state=TrialState.FAIL)  # last: a kill before it loses nothing


def _new_jobs(
    study: Study, entry: Entry, space: Space, folder: Path, trials: int, live: Live
) -> Iterator[Job[Trial]]:
    """Yield a job of a new trial at each request, until there are enough trials."""
    for trial in counted_trials(study)[:trials]:
        score = trial.value if trial.state == TrialState.COMPLETE else None
        live.count_run(entry.label, trial_seconds(trial, folder), score)
    while len(counted_trials(study)) + len(running_trials(study)) < trials:
        new = ask_new_trial(study, distributions(space), entry.config["seed"])
        if new is None:
            return
        yield _new_job(new, entry, trial_folder(folder, new))


def _new_job(trial: Trial, entry: Entry, folder: Path) -> Job[Trial]:
    # First phases of trials may differ in length, so that their validations are not comparable.
    prunes = not issubclass(entry.config.model_class, PhasedRecommender)

    def heard(number: int, score: float) -> bool:
        trial.report(score, number)
        return prunes and trial.should_prune()

    if FOLDER not in trial.user_attrs:  # files there are from a study that was removed
        shutil.rmtree(folder, ignore_errors=True)
    command, name = trial_command(entry.with_own(trial.params), folder), f"trial {trial.number}"
    return Job(trial, entry.label, name, command, folder, heard, entry.config["gpu_id"])


def _write_best(file: Path, entry: Entry, best: Choice, trials: int) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    metric, tried = entry.config["valid_metric"], lines.plural(trials, "trial")
    about = f"# {entry.label}: best of {tried}, {metric} on validation {best.scores}"
    settings = parse_values(best.trial.params, text_keys())
    write_whole(file, f"{about}\n{yaml.safe_dump(settings)}".encode(), OTHER_FOLDER)
    return file
