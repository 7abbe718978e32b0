"""The command compare, from models to a table: missing runs, statistics, files."""

from __future__ import annotations

import shlex
from collections.abc import Generator, Iterator, Sequence
from contextlib import closing
from pathlib import Path

from recbole_llm.core.checkpoints.stored import arguments_for_reload
from recbole_llm.core.errors import one_line, unknown_name_error
from recbole_llm.core.files import OTHER_FOLDER, check_folder, write_json
from recbole_llm.core.lines import plural, quoted
from recbole_llm.core.log import close_log, init_log
from recbole_llm.report import can_recommend
from recbole_llm.tasks.compare.agreement import describe_random_splits, unify_protocol
from recbole_llm.tasks.compare.cells import Cell, make_cells, read_best_score
from recbole_llm.tasks.compare.entries import Entry, parse_models
from recbole_llm.tasks.compare.executors import Executor, RunOptions, lock_folder, open_executor
from recbole_llm.tasks.compare.live import Live
from recbole_llm.tasks.compare.page import write_page
from recbole_llm.tasks.compare.pool import Job, run_jobs
from recbole_llm.tasks.compare.summary import Summary, describe_other_sizes, summarize
from recbole_llm.tasks.compare.tables import screen_lines, write_tables

Failures = dict[Cell, str]
_MOST_SEEDS = 100
_WRITTEN = ("result.json", "table.md", "table.tex", "page.html")


def compare(
    models: str,
    options: RunOptions,
    seeds: str = "3",
    baseline: str | None = None,
    tune: int | None = None,
    config_file_list: Sequence[str] = (),
    argv: Sequence[str] = (),
) -> Generator[str, None, None]:
    """Carry out missing runs, test the differences, and write tables and ``result.json``.

    Args:
        models: see `recbole_llm.tasks.compare.entries.parse_models`.
        options: a comparison that was stopped is continued in their folder.
        seeds: how many, counted up from the configured seed; or a list separated by commas.
        baseline: label of the model that the others are tested against; None: the first.
        tune: number of trials to search each model's settings first; None: no search.
        config_file_list, argv: settings of all models.

    Yields:
        lines for the screen.

    Raises:
        ValueError: in one line: invalid models or settings, models that are judged differently, or
            a missing executor; after the tables: runs that failed.
    """
    entries = parse_models(models, argv, config_file_list)
    labels = [entry.label for entry in entries]
    if baseline is not None and baseline not in labels:
        raise unknown_name_error("baseline: the model", baseline, labels)
    entries, notes = unify_protocol(entries)
    root = Path(options.output)
    check_folder(root, OTHER_FOLDER)
    numbers = _parse_seeds(seeds, entries)
    notes += describe_random_splits(entries[0], len(numbers), tune is not None)
    yield from notes
    untuned: dict[str, str] = {}
    with lock_folder(root), open_executor(options) as executor:
        if tune is not None:
            entries, untuned = yield from _tune_entries(entries, tune, numbers[0], root, executor)
        all_cells = make_cells(entries, numbers, root)
        failures = {c: untuned[c.entry.label] for c in all_cells if c.entry.label in untuned}
        cells = [cell for cell in all_cells if cell not in failures]
        failures |= run_cells(cells, executor)
    for name in _WRITTEN:  # from an earlier comparison
        (root / name).unlink(missing_ok=True)
    summary = summarize(cells, failures, baseline or labels[0])
    repeats = dict.fromkeys(row.runs[0]["repeats"] for row in summary.rows)
    summary.notes = [*notes, *describe_other_sizes(summary.rows), *filter(None, repeats)]
    yield from _write_results(summary, cells, root)
    if failures:
        raise ValueError(
            f"{len(failures)} of {plural(len(all_cells), 'run')} failed, see above; "
            f"{_retry_advice(len(failures), bool(untuned))}"
        )


def _tune_entries(
    entries: Sequence[Entry], trials: int, seed: int, root: Path, executor: Executor
) -> Generator[str, None, tuple[list[Entry], dict[str, str]]]:
    """Search the settings of each entry with the same budget and seed; returns the entries with
    their best settings, and {label: reason} of the searches that failed."""
    from recbole_llm.tasks.compare import space, tuning
    from recbole_llm.tasks.compare.choice import NoTrialError

    tuned, failed = [], {}
    searched = [entry for entry in entries if space.offered_space(entry.config, entry.config.spec)]
    for entry in searched:
        space.resolve_space(entry)  # fails here rather than after other searches
    for entry in entries:
        if entry not in searched:
            yield f"{entry.label}: nothing to search; it runs as it is"
            tuned.append(entry)
            continue
        try:
            best, file = tuning.search_settings(
                entry.with_own({"seed": seed}), trials, root, executor
            )
        except NoTrialError as error:
            yield str(error)
            failed[entry.label] = str(error).removeprefix(f"{entry.label}: ")
            tuned.append(entry)
            continue
        yield from (f"{entry.label}: {line}" for line in tuning.report_lines(best, file))
        tuned.append(entry.with_own(best.trial.params))
    return tuned, failed


def _retry_advice(failed: int, searches: bool) -> str:
    """Advice for failed runs. Failed trials count, so the same command would search no further."""
    again = f"the same command tries {'it' if failed == 1 else 'them'} again"
    return f"{again}, and with a larger --tune it searches on" if searches else again


def _write_results(summary: Summary, cells: Sequence[Cell], root: Path) -> Iterator[str]:
    write_json(root / "result.json", summary.to_dict(), OTHER_FOLDER)
    yield ""
    write_tables(summary, root)
    yield from screen_lines(summary)
    yield ""
    yield f"written  {root}/table.md, table.tex, result.json; the runs are in {root}/cells"
    yield f"page     {_try_page(summary, cells, root)}"
    yield from _next_line(summary, cells)


def _try_page(summary: Summary, cells: Sequence[Cell], root: Path) -> str:
    """The page's path, or why there is none: its failure must not affect the tables."""
    init_log(cells[0].seeded.config, to_file=False)  # the page loads data, which may warn
    try:
        return write_page(summary, cells, root)
    except (ValueError, OSError) as error:
        return f"no page.html: {one_line(error)}"
    finally:
        close_log()


def _next_line(summary: Summary, cells: Sequence[Cell]) -> Iterator[str]:
    """The command to recommend with the best model, as trained with its first seed."""
    best = next(iter(summary.ranked(summary.metrics[0])), summary.rows[0])
    cell = next(cell for cell in cells if cell.entry.label == best.label and cell.is_done)
    if Path(cell.checkpoint).is_file() and can_recommend(cell.seeded.config):
        own = [f"--checkpoint={cell.checkpoint}", f"--users={quoted(cell.users['users'][0])}"]
        arguments = shlex.join([*own, *arguments_for_reload(cell.seeded.config)])
        yield f"next     recbole-llm recommend {arguments}"


def _parse_seeds(text: str, entries: Sequence[Entry]) -> list[int]:
    """``3``: three, counted up from the first model's seed; ``2020,2021`` or ``2020,``: a list."""
    try:
        numbers = [int(part) for part in text.removesuffix(",").split(",")]
    except ValueError:
        raise ValueError(f"seeds: expected a number, or some such as 1,2,3, got '{text}'") from None
    _check_own_seeds(entries)
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


def _check_own_seeds(entries: Sequence[Entry]) -> None:
    for entry in entries:
        if "seed" in entry.own:
            raise ValueError(
                f"models: {entry.label}: seeds are given for all models, by --seeds=1,2,3, or by "
                f"--seed, which is the first"
            )


def run_cells(cells: Sequence[Cell], executor: Executor) -> Failures:
    """Run the cells that are not done; returns {cell: reason} of those that fail."""
    if not cells:  # every search failed
        return {}
    labels = list(dict.fromkeys(cell.entry.label for cell in cells))
    failures: Failures = {}
    missing: dict[Path, list[Cell]] = {}
    with closing(Live(labels, len(cells) // len(labels), executor.at_once)) as live:
        for cell in cells:
            if cell.is_done:
                live.count_run(
                    cell.entry.label, cell.result["seconds"]["all"], read_best_score(cell.folder)
                )
            else:
                missing.setdefault(cell.folder, []).append(cell)
        jobs = (_make_job(first, live) for first, *_ in missing.values())
        with closing(run_jobs(jobs, executor, live.show)) as outcomes:
            for outcome in outcomes:
                for cell in missing[outcome.payload.folder]:
                    place = (cell.entry.label, f"seed {cell.seed}", outcome.seconds)
                    if outcome.error is None:
                        live.end_run(*place, read_best_score(cell.folder))
                    else:
                        failures[cell] = outcome.error
                        live.end_run(*place, None, f"failed: {outcome.error}")
    return {cell: failures[cell] for cell in cells if cell in failures}


def _make_job(cell: Cell, live: Live) -> Job[Cell]:
    label, name = cell.entry.label, f"seed {cell.seed}"

    def heard(number: int, score: float) -> bool:
        live.show_validation(label, name, number, score)
        return False

    live.start_run(label, name)
    gpus = cell.entry.config["gpu_id"]
    return Job(cell, ["run", *cell.arguments], cell.folder, heard, gpus)
