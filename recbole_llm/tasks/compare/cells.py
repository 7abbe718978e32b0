"""A cell of a comparison: a run of a model with a seed, identified by all that affects results."""

from __future__ import annotations

import json
import math
import re
import zlib
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from logging import getLogger
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np

from recbole_llm.core.config import Config
from recbole_llm.core.errors import one_line
from recbole_llm.tasks.compare.entries import OWN_FILES, Entry, run_arguments
from recbole_llm.tasks.compare.executors import Executor
from recbole_llm.tasks.compare.keys import run_key
from recbole_llm.tasks.compare.live import Live
from recbole_llm.tasks.compare.pool import Job, Outcome, run_jobs
from recbole_llm.trainers.resume_point import load_run, part_file


@dataclass(frozen=True, eq=False)
class Cell:
    """One run of a model."""

    entry: Entry
    seed: int
    seeded: Entry  # the entry with this seed
    folder: Path  # of its files; what affects the results determines its name

    @property
    def name(self) -> str:
        """The label and the seed, for messages."""
        return f"{self.entry.label}, seed {self.seed}"

    @property
    def job(self) -> Job[Cell]:
        """Its run in a process; a run that was stopped is resumed."""
        own = [f"--{key}={self.folder / name}" for key, name in OWN_FILES.items()]
        resume = resume_arguments(self.folder, self.seeded.config)
        command = ["run", *run_arguments(self.seeded), *own, *resume]
        label, gpus = self.entry.label, self.entry.config["gpu_id"]
        return Job(self, label, f"seed {self.seed}", command, self.folder, gpus=gpus)

    @property
    def is_done(self) -> bool:
        """Whether the run ended well, and its files are there."""
        return _is_done(self.folder)

    @property
    def result(self) -> dict[str, Any]:
        """The result that the run wrote."""
        return read_result(self.folder)

    @property
    def users(self) -> dict[str, Any]:
        """The run's metrics by user, and lists of items for a few users: plain arrays by name.

        Raises:
            ValueError: the file is damaged.
        """
        file = self.folder / "users.npz"
        try:
            with np.load(file) as opened:  # refuses what is pickled
                return {name: opened[name] for name in opened.files}
        except (ValueError, EOFError, BadZipFile, zlib.error) as error:
            raise _damaged(file, error) from None

    @property
    def checkpoint(self) -> str:
        """File of the trained model."""
        return str(self.folder / "saved" / Path(self.result["checkpoint"]).name)


def make_cells(entries: Sequence[Entry], seeds: Sequence[int], root: Path) -> list[Cell]:
    """Make a cell of each model with each seed. Cells with the same settings share a run, which is
    also found again under another label."""
    folders: dict[str, Path] = {}
    cells = []
    for seed in seeds:
        for entry in entries:
            seeded = entry.with_own({"seed": seed})
            key = f"{seed}-{run_key(seeded.config)[:10]}"
            if key not in folders:
                folders[key] = _folder(root / "cells", entry.label, key)
            cells.append(Cell(entry, seed, seeded, folders[key]))
    return cells


def _folder(cells: Path, label: str, key: str) -> Path:
    slug = re.sub(r"[^\w.=+-]+", "-", label).strip("-")[:60]
    own = cells / f"{slug}-{key}"
    there = sorted(cells.glob(f"*-{key}"))
    return min(there, key=lambda folder: (not _is_done(folder), folder != own), default=own)


def _is_done(folder: Path) -> bool:
    """The result is written last."""
    return all((folder / name).is_file() for name in ("users.npz", "result.json"))


def resume_arguments(folder: Path, config: Config) -> list[str]:
    """The argument that resumes a run which was stopped in this folder; none if there is no run."""
    stopped = folder.glob(f"saved/{part_file('*.pth', 'last')}")
    newest = max(stopped, key=lambda file: file.stat().st_mtime, default=None)
    if newest is None:
        return []
    try:
        load_run(str(newest), config)
    except ValueError as error:  # they may differ in settings that neither run reads
        getLogger("recbole_llm").warning(f"{folder.name} starts anew ({one_line(error)})")
        return []
    return [f"--resume={newest}"]


def read_result(folder: Path) -> dict[str, Any]:
    """Read the result that a run wrote into its folder.

    Raises:
        ValueError: its file is damaged.
    """
    file = folder / "result.json"
    try:
        return json.loads(file.read_text("utf-8"))
    except ValueError as error:
        raise _damaged(file, error) from None


def _damaged(file: Path, error: Exception) -> ValueError:
    return ValueError(
        f"{file} is damaged ({one_line(error)}): remove it, and the run is done again"
    )


def read_best_score(folder: Path) -> float:
    """A run's best score on validation; NaN if it has none."""
    score = read_result(folder)["best_valid_score"]
    return math.nan if score is None else float(score)


def read_outcome(outcome: Outcome[Any]) -> tuple[float | None, str]:
    """The best score on validation of a run that ended; or None, and why it has none."""
    if outcome.error is not None:
        return None, outcome.error
    score = read_best_score(outcome.job.folder)
    return (
        (score, "") if math.isfinite(score) else (None, f"its best score on validation is {score}")
    )


def run_cells(cells: Sequence[Cell], executor: Executor) -> dict[Cell, str]:
    """Run the cells that are not done; returns {cell: reason} of those that fail."""
    if not cells:  # every search failed
        return {}
    labels = list(dict.fromkeys(cell.entry.label for cell in cells))
    failures: dict[Cell, str] = {}
    missing: dict[Path, list[Cell]] = {}
    with closing(Live(labels, len(cells) // len(labels), executor.at_once)) as live:
        for cell in cells:
            if cell.is_done:
                live.count_run(
                    cell.entry.label, cell.result["seconds"]["all"], read_best_score(cell.folder)
                )
            else:
                missing.setdefault(cell.folder, []).append(cell)
        jobs = (first.job for first, *_ in missing.values())
        with closing(run_jobs(jobs, executor, live)) as outcomes:
            for outcome in outcomes:
                for cell in missing[outcome.job.folder]:
                    place = (cell.entry.label, f"seed {cell.seed}", outcome.seconds)
                    if outcome.error is None:
                        live.end_run(*place, read_best_score(cell.folder))
                    else:
                        failures[cell] = outcome.error
                        live.end_run(*place, None, f"failed: {outcome.error}")
    return {cell: failures[cell] for cell in cells if cell in failures}
