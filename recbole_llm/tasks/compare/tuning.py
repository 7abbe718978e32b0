"""Search for a model's settings on validation, by Optuna: a stopped search goes on."""

from __future__ import annotations

import math
import shlex
import shutil
from collections.abc import Generator, Iterator, Sequence
from contextlib import closing
from pathlib import Path
from urllib.parse import quote

import yaml
from tqdm import tqdm

from recbole_llm.core import lines
from recbole_llm.core.checks import text_keys
from recbole_llm.core.digest import digest
from recbole_llm.core.errors import needing
from recbole_llm.core.files import OTHER_FOLDER, check_folder, write_whole
from recbole_llm.core.schema import parse_values
from recbole_llm.core.settings import Space
from recbole_llm.data.create import check_files
from recbole_llm.models.phased import PhasedRecommender
from recbole_llm.tasks.compare.cells import best_score, way_on
from recbole_llm.tasks.compare.entries import (
    Entry,
    check_parts,
    file_arguments,
    ignored,
    parse_models,
    plain_arguments,
)
from recbole_llm.tasks.compare.executors import Executor, alone_in, open_executor
from recbole_llm.tasks.compare.keys import run_key
from recbole_llm.tasks.compare.live import Live
from recbole_llm.tasks.compare.pool import Ended, Job, run_jobs
from recbole_llm.tasks.compare.space import defaults, distributions, space_of

with needing("tuning"):
    import optuna
    from optuna import Study
    from optuna.trial import FrozenTrial, Trial, TrialState

    from recbole_llm.tasks.compare.trials import (
        ERROR,
        PLACE,
        ask,
        counted,
        kept_in,
        place,
        running,
        seconds_of,
    )

_KEPT = "tuning.db"  # the file of all trials
# Per cent that go on, trials before any is pruned, its first validation: slow starters may win.
_PRUNED = (75.0, 4, 5)
_RIVALS = 4  # trials that got as far as one that is pruned: a single survivor is no measure


class NoTrialError(ValueError):
    """No trial ended well."""


def tune(
    model: str,
    trials: int,
    jobs: int = 1,
    output: str = "tuning",
    search: str | None = None,
    executor: str = "local",
    ray_address: str | None = None,
    config_file_list: Sequence[str] = (),
    argv: Sequence[str] = (),
) -> Generator[str, None, tuple[FrozenTrial, Path]]:
    """Search for the settings of a model, and write the best as YAML.

    Args:
        model: name.
        trials, jobs: in all, with those that were done before; and at once.
        output: folder of everything; a search that was stopped goes on there.
        search: keys to search, and where: see `recbole_llm.tasks.compare.space.space_of`.
        executor, ray_address: see `open_executor`. config_file_list, argv: settings, not searched.

    Yields:
        lines for the screen; it returns the best trial, and the file.

    Raises:
        ValueError: in one line: settings, Optuna is not installed, or no trial that ended well.
    """
    entry, *others = parse_models(model, argv, config_file_list)
    if others:
        raise ValueError("model: tune takes one model; compare --tune takes several")
    check_parts(entry, ["validation"])
    check_files(entry.config)
    root = Path(output)
    check_folder(root, OTHER_FOLDER)
    yield from ignored([entry])
    with alone_in(root), open_executor(executor, jobs, ray_address) as opened:
        best, file = find(entry, trials, root, opened, search)
    yield from said(best, file)
    arguments = [*entry.argv, *file_arguments([*entry.files, str(file)])]
    yield f"next     recbole-llm run {shlex.join(arguments)}"
    return best, file


def said(best: FrozenTrial, file: Path) -> Iterator[str]:
    """What a search found, in lines."""
    settings = " ".join(f"--{key}={_short(value)}" for key, value in best.params.items())
    yield f"best of validation {best.value:.4f} (trial {best.number}): {settings}"
    yield f"written  {file}"


def find(
    entry: Entry, trials: int, root: Path, executor: Executor, search: str | None = None
) -> tuple[FrozenTrial, Path]:
    """The best of the first so many trials of a search, and the file of its settings.

    The folder is there, and nobody else searches in it (`alone_in`).

    Raises:
        NoTrialError: no trial ended well.
    """
    if trials < 1:
        raise ValueError(f"a search needs at least 1 trial, got {trials}")
    space = space_of(entry, search)
    keys = run_key(entry.config)[:10], digest(str(sorted(space.items())))[:6]
    name = "-".join([entry.config["model"], *keys])  # a key set to its default is not searched
    live = Live([entry.label], trials, executor.at_once, "trial", entry.better)
    folder = root / "trials" / name
    with kept_in(root / _KEPT), closing(live):
        study = _study(name, entry, space, root, executor.at_once)
        _left(study, folder)
        jobs = _jobs(study, entry, space, folder, trials, live)
        with closing(run_jobs(jobs, executor, live.show)) as endings:
            for ended in endings:
                _told(study, entry.label, ended, folder, live)
        first = counted(study)[:trials]  # an earlier search in the folder may have made more
        if len(first) < trials:
            tqdm.write(f"{entry.label}: all {len(first)} settings of the search were tried")
    best = _best(first, entry)
    return best, _write(root / "tuned" / f"{name}.yaml", entry, best, len(first))


def _told(study: Study, label: str, ended: Ended[Trial], folder: Path, live: Live) -> None:
    """The study and the table hear how a trial ended."""
    trial, name, error = ended.what, f"trial {ended.what.number}", ended.error
    own = place(folder, trial)
    shutil.rmtree(own / "saved", ignore_errors=True)  # its score is all that is wanted
    if error is None and ended.stopped:
        study.tell(trial, state=TrialState.PRUNED)
        live.ended(label, name, ended.seconds, None, "stopped early")
        return
    score = best_score(own) if error is None else math.nan
    if error is None and math.isfinite(score):
        study.tell(trial, score)
        live.ended(label, name, ended.seconds, score)
        return
    error = error or f"its best score on validation is {score}"
    trial.set_user_attr(ERROR, error)
    study.tell(trial, state=TrialState.FAIL)
    live.ended(label, name, ended.seconds, None, f"failed: {error}")


def _study(name: str, entry: Entry, space: Space, root: Path, at_once: int) -> Study:
    """The study of this name, new or where it stood; its first trial is of the defaults."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(
        storage=f"sqlite:///{quote(str((root / _KEPT).absolute()))}",
        study_name=name,
        load_if_exists=True,
        direction="maximize" if entry.config["valid_metric_bigger"] else "minimize",
        pruner=optuna.pruners.PercentilePruner(*_PRUNED, n_min_trials=_RIVALS),
    )
    before = len(study.get_trials(deepcopy=False))  # the same seed would draw them once more
    study.sampler = optuna.samplers.TPESampler(
        seed=entry.config["seed"] + before, constant_liar=at_once > 1
    )
    if not before:
        study.enqueue_trial(defaults(space, entry.config))
    return study


def _left(study: Study, folder: Path) -> None:
    """Trials of a command that is gone: those that had ended count, the others go on in theirs."""
    for trial in running(study):
        own = place(folder, trial)
        score = best_score(own) if (own / "result.json").is_file() else math.nan
        if math.isfinite(score):
            shutil.rmtree(own / "saved", ignore_errors=True)
            study.tell(trial.number, score)
            continue
        drawn = {**trial.system_attrs.get("fixed_params", {}), **trial.params}  # some, or all
        study.enqueue_trial(drawn, {PLACE: own.name})
        study.tell(trial.number, state=TrialState.FAIL)  # after it: a kill here loses nothing


def _jobs(
    study: Study, entry: Entry, space: Space, folder: Path, trials: int, live: Live
) -> Iterator[Job[Trial]]:
    """A new trial each time that one is asked for, as long as there are not enough."""
    for trial in counted(study)[:trials]:
        score = trial.value if trial.state == TrialState.COMPLETE else None
        live.there(entry.label, seconds_of(trial, folder), score)
    while len(counted(study)) + len(running(study)) < trials:
        new = ask(study, distributions(space), entry.config["seed"])
        if new is None:
            return
        yield _job(new, entry, place(folder, new), live)


def _job(trial: Trial, entry: Entry, folder: Path, live: Live) -> Job[Trial]:
    # The first phases of two trials may be of different lengths: they are not to be compared.
    prunes = not issubclass(entry.config.model_class, PhasedRecommender)

    def heard(number: int, score: float) -> bool:
        trial.report(score, number)
        live.heard(entry.label, f"trial {trial.number}", number, score)
        return prunes and trial.should_prune()

    if PLACE not in trial.user_attrs:  # what lies there is of a study that was removed
        shutil.rmtree(folder, ignore_errors=True)
    live.started(entry.label, f"trial {trial.number}")
    files = [f"--output={folder / 'result.json'}", f"--checkpoint_dir={folder / 'saved'}"]
    tried = entry.with_own(trial.params)
    arguments = [*plain_arguments(tried), *files, *way_on(folder, tried.config)]
    return Job(trial, ["trial", *arguments], folder, heard, entry.config["gpu_id"])


def _best(trials: Sequence[FrozenTrial], entry: Entry) -> FrozenTrial:
    done = [(t.values[0], t) for t in trials if t.state == TrialState.COMPLETE]
    if not done:
        errors = sorted({trial.user_attrs.get(ERROR, "") for trial in trials} - {""})
        raise NoTrialError(f"{entry.label}: no trial ended well: {'; '.join(errors)}")
    return entry.better(done, key=lambda pair: pair[0])[1]


def _write(file: Path, entry: Entry, best: FrozenTrial, trials: int) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    metric, tried = entry.config["valid_metric"], lines.counted(trials, "trial")
    about = f"# {entry.label}: best of {tried}, {metric} {best.value:.4f} on validation"
    settings = parse_values(best.params, text_keys())
    write_whole(file, f"{about}\n{yaml.safe_dump(settings)}".encode(), OTHER_FOLDER)
    return file


def _short(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
