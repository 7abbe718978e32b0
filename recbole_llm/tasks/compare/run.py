"""Comparisons and searches, for the commands compare and tune and from Python."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from click import echo

from recbole_llm.core.checkpoints.served import can_recommend
from recbole_llm.core.checkpoints.stored import arguments_for_reload
from recbole_llm.core.errors import one_line, unknown_name_error
from recbole_llm.core.files import OTHER_FOLDER, check_folder, write_json
from recbole_llm.core.lines import plural, quoted
from recbole_llm.core.log import close_log, init_log
from recbole_llm.core.schema import given_settings, parse_values
from recbole_llm.core.yaml_files import files_given, read_yaml
from recbole_llm.data.create import check_files
from recbole_llm.tasks.compare.agreement import describe_random_splits, unify_protocol
from recbole_llm.tasks.compare.cells import Cell, make_cells, run_cells
from recbole_llm.tasks.compare.entries import (
    Entry,
    check_split,
    describe_ignored_keys,
    file_arguments,
    parse_models,
)
from recbole_llm.tasks.compare.executors import lock_folder, open_executor
from recbole_llm.tasks.compare.keys import code_digest
from recbole_llm.tasks.compare.page import write_page
from recbole_llm.tasks.compare.summary import Summary, describe_rows, summarize
from recbole_llm.tasks.compare.tables import screen_lines, write_tables

_MOST_SEEDS = 100
_WRITTEN = ("result.json", "table.md", "table.tex", "page.html")


def compare(
    models: str | Sequence[str],
    dataset: str | None = None,
    config_file_list: Sequence[str] | None = None,
    config_dict: Mapping[str, Any] | None = None,
    argv: Sequence[str] = (),
    seeds: int | str | Sequence[int] = 3,
    jobs: int = 1,
    baseline: str | None = None,
    tune: int | None = None,
    output: str | Path = "comparison",
    executor: str = "local",
    ray_address: str | None = None,
) -> dict[str, Any]:
    """Compare models over several seeds, each run in a process of its own.

    It prints lines as they come; one that was stopped is continued in its folder.

    Args:
        models: ``"SASRec; name: SASRec --item_init=llm"``, or a list of such texts.
        dataset, config_file_list, config_dict, argv: as in `run_recbole_llm`, for all models.
        seeds: how many, counted up from the configured seed; or a list of them.
        jobs, baseline, tune, output, executor, ray_address: as the command's options.

    Returns:
        what ``result.json`` in the folder `output` holds.

    Raises:
        ValueError: in one line: what the command refuses; or, after the tables, runs that failed.
    """
    entries = _parse(models, dataset, config_file_list, config_dict, argv)
    labels = [entry.label for entry in entries]
    if baseline is not None and baseline not in labels:
        raise unknown_name_error("baseline: the model", baseline, labels)
    entries, notes = unify_protocol(entries)
    root = Path(output)
    check_folder(root, OTHER_FOLDER)
    numbers = _parse_seeds(seeds, entries)
    notes += describe_random_splits(entries[0], len(numbers), tune is not None)
    for note in notes:
        echo(note)
    untuned: dict[str, str] = {}
    with lock_folder(root):
        with open_executor(executor, jobs, ray_address) as runs_in:
            if tune is not None:
                from recbole_llm.tasks.compare.tuning import tune_entries

                entries, untuned = tune_entries(entries, tune, numbers[0], root, runs_in)
            all_cells = make_cells(entries, numbers, root)
            failures = {c: untuned[c.entry.label] for c in all_cells if c.entry.label in untuned}
            failures |= run_cells([cell for cell in all_cells if cell not in failures], runs_in)
        for name in _WRITTEN:  # from an earlier comparison
            (root / name).unlink(missing_ok=True)
        cells = [cell for cell in all_cells if cell.entry.label not in untuned]
        summary = summarize(cells, failures, baseline or labels[0])
        summary.notes = [*notes, *describe_rows(summary.rows, summary.metrics)]
        _write_results(summary, cells, root)
        if failures:
            raise _failed_runs_error(len(failures), len(all_cells), bool(untuned))
        return dict(json.loads((root / "result.json").read_text("utf-8")))


def _failed_runs_error(failed: int, runs: int, searches: bool) -> ValueError:
    again = f"the same command tries {'it' if failed == 1 else 'them'} again"
    # Failed trials count, so the same command would search no further.
    more = ", and with a larger --tune it searches on" if searches else ""
    return ValueError(f"{failed} of {plural(runs, 'run')} failed, see above; {again}{more}")


def tune(
    model: str,
    dataset: str | None = None,
    config_file_list: Sequence[str] | None = None,
    config_dict: Mapping[str, Any] | None = None,
    argv: Sequence[str] = (),
    *,
    trials: int,
    jobs: int = 1,
    search: str | None = None,
    output: str | Path = "tuning",
    executor: str = "local",
    ray_address: str | None = None,
) -> dict[str, Any]:
    """Search for a model's settings on validation, each trial in a process of its own.

    It prints lines as they come; one that was stopped is continued in its folder.

    Args:
        model: its name, with arguments of its own if any.
        dataset, config_file_list, config_dict, argv: as `run_recbole_llm` takes them; keys that
            are set are not searched.
        trials, jobs, search, output, executor, ray_address: as the command's options.

    Returns:
        best_params, best_valid_score, and file: the best settings as YAML.

    Raises:
        ValueError: in one line: invalid settings, no Optuna, or no trial that ended well.
    """
    from recbole_llm.tasks.compare.tuning import NoTrialError, report_lines, search_settings

    entry, *others = _parse(model, dataset, config_file_list, config_dict, argv)
    if others:
        raise ValueError("model: tune takes one model; compare --tune takes several")
    check_split(entry, ["validation"])
    check_files(entry.config)
    root = Path(output)
    check_folder(root, OTHER_FOLDER)
    for line in describe_ignored_keys([entry]):
        echo(line)
    with lock_folder(root), open_executor(executor, jobs, ray_address) as runs_in:
        try:
            best, file = search_settings(entry, trials, root, runs_in, search)
        except NoTrialError as error:
            way_out = "with a larger --trials the same command searches on"  # failed ones count
            raise ValueError(f"{error}; {way_out}") from error
    for line in report_lines(best, file):
        echo(line)
    arguments = [*entry.argv, *file_arguments([*entry.files, str(file)])]
    echo(f"next     recbole-llm run {shlex.join(arguments)}")
    return {"best_params": read_yaml(file), "best_valid_score": best.score, "file": str(file)}


def _parse(
    models: str | Sequence[str],
    dataset: str | None,
    config_file_list: Sequence[str] | None,
    config_dict: Mapping[str, Any] | None,
    argv: Sequence[str],
) -> list[Entry]:
    """The models with their settings as command-line arguments, as their runs take them."""
    texts = [models] if isinstance(models, (str, type)) else models
    for model in texts:
        if not isinstance(model, str):
            raise ValueError(  # noqa: TRY004
                f"models: {model!r} is no name, and runs are processes of their own: register the "
                f"class in a file, and give that as config_dict={{'plugins': ['mine.py']}}"
            )
    code_digest.cache_clear()  # files may have changed since this process looked last
    given = {**given_settings(config_dict), **({} if dataset is None else {"dataset": dataset})}
    plain = parse_values(given, given)  # texts stay as they are written
    arguments = [*(f"--{key}={value}" for key, value in plain.items()), *argv]
    return parse_models(
        "; ".join(texts), arguments, [str(f) for f in files_given(config_file_list)]
    )


def _parse_seeds(seeds: int | str | Sequence[int], entries: Sequence[Entry]) -> list[int]:
    """``3``: three, counted up from the first model's seed; ``2020,2021`` or ``2020,``: a list."""
    text = str(seeds)
    if isinstance(seeds, Iterable) and not isinstance(seeds, str):
        text = f"{','.join(map(str, seeds))},"
    try:
        numbers = [int(part) for part in text.removesuffix(",").split(",")]
    except ValueError:
        raise ValueError(f"seeds: expected a number, or some such as 1,2,3, got '{text}'") from None
    for entry in entries:
        if "seed" in entry.own:
            raise ValueError(
                f"models: {entry.label}: seeds are given for all models, by --seeds=1,2,3, or by "
                f"--seed, which is the first"
            )
    if "," in text:
        return list(dict.fromkeys(numbers))
    if numbers[0] < 1:
        raise ValueError(f"seeds: expected at least 1, got {numbers[0]}")
    if numbers[0] > _MOST_SEEDS:
        raise ValueError(
            f"seeds: {numbers[0]:,} would be as many runs of each model; for the single seed "
            f"{numbers[0]} write --seeds=1 --seed={numbers[0]}"
        )
    first = entries[0].config["seed"]
    return list(range(first, first + numbers[0]))


def _write_results(summary: Summary, cells: Sequence[Cell], root: Path) -> None:
    write_json(root / "result.json", summary.to_dict(), OTHER_FOLDER)
    write_tables(summary, root)
    for line in ("", *screen_lines(summary), ""):
        echo(line)
    echo(f"written  {root}/table.md, table.tex, result.json; the runs are in {root}/cells")
    echo(f"page     {_try_page(summary, cells, root)}")
    best = next(iter(summary.ranked(summary.metrics[0])), summary.rows[0])
    # As trained with its first seed.
    cell = next(cell for cell in cells if cell.entry.label == best.label and cell.is_done)
    if Path(cell.checkpoint).is_file() and can_recommend(cell.seeded.config):
        own = [f"--checkpoint={cell.checkpoint}", f"--users={quoted(cell.users['users'][0])}"]
        arguments = shlex.join([*own, *arguments_for_reload(cell.seeded.config)])
        echo(f"next     recbole-llm recommend {arguments}")


def _try_page(summary: Summary, cells: Sequence[Cell], root: Path) -> str:
    """The page's path, or why there is none: its failure must not affect the tables."""
    init_log(cells[0].seeded.config, to_file=False)  # the page loads data, which may warn
    try:
        return write_page(summary, cells, root)
    except (ValueError, OSError) as error:
        return f"no page.html: {one_line(error)}"
    finally:
        close_log()
