"""Trainings killed at chosen points, resumed, and compared bit for bit with uninterrupted ones.

``python tests/campaigns/kill_points.py [MODEL …]`` prints a line per model; faults give status 1.
"""

from __future__ import annotations

import os
import shutil
import signal
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from killing import CASES, damaged, differences, finished, prepare, start, train

from recbole_llm.trainers.phased import PhasedTrainer
from recbole_llm.trainers.trainer import Trainer

# Where a run can be killed: at a call of a function, given as a share of all of its calls.
# RecBole checks the loss once per batch, and validates between two epochs.
POINTS: dict[str, tuple[Any, str, tuple[float, ...]]] = {
    "batch": (Trainer, "_check_nan", (1 / 6, 3 / 6, 5 / 6)),  # one in each of PAD's phases
    "between epochs": (Trainer, "_valid_epoch", (0, 0.6)),
    "between phases": (PhasedTrainer, "_end_phase", (0, 0.6, 1)),
    "while saving": (torch, "save", (0, 0.4, 1)),
}


def count(point: str, folder: Path) -> None:
    """Note each call in a file."""

    def note(call: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        with (folder / f"{point}.log").open("a") as log:
            log.write(".")
        return call(*args, **kwargs)

    _wrap(point, note)


def die(point: str, number: int) -> None:
    """Make this process kill itself at the n-th call."""
    calls = 0

    def last(call: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls < number:
            return call(*args, **kwargs)
        if point == "while saving":
            args[1].write(b"half of it")
            args[1].flush()
        elif point != "batch":
            call(*args, **kwargs)
        os.kill(os.getpid(), signal.SIGKILL)

    _wrap(point, last)


def _wrap(point: str, around: Callable[..., Any]) -> None:
    owner, name, _ = POINTS[point]
    call = getattr(owner, name)
    setattr(owner, name, lambda *args, **kwargs: around(call, *args, **kwargs))


def whole_run(case: str, folder: Path) -> dict[str, int]:
    """Run without a kill; return how often each point is passed."""

    def work() -> None:
        for point in POINTS:
            count(point, folder)
        train(case, folder)

    folder.mkdir()
    assert finished(start(work))
    logs = {point: folder / f"{point}.log" for point in POINTS}
    return {point: log.stat().st_size for point, log in logs.items() if log.exists()}


def killed_run(case: str, point: str, number: int, folder: Path) -> list[str]:
    """Kill a run at a point, check its files, and resume it; return the faults."""

    def work() -> None:
        die(point, number)
        train(case, folder)

    if finished(start(work)):
        return ["it was not killed"]
    faults = damaged(folder)
    again = start(lambda: train(case, folder))
    return faults if finished(again) else [*faults, "the second run was killed"]


def check(case: str, folder: Path) -> tuple[int, list[str]]:
    """Kill a case's training at all points; return the number of kills, and the faults."""
    passed, kills, faults = whole_run(case, folder / "whole"), 0, []
    for point, calls in passed.items():
        for number in sorted({round(calls * share) or 1 for share in POINTS[point][2]}):
            own = folder / "killed"
            found = killed_run(case, point, number, own)
            found += differences(folder / "whole", own)
            faults += [f"{case}, {point} {number} of {calls}: {fault}" for fault in found]
            shutil.rmtree(own)
            kills += 1
    return kills, faults


def main(cases: list[str]) -> int:
    """Check the cases, all by default; 1 if anything was wrong."""
    status = 0
    for case in cases or list(CASES):
        with tempfile.TemporaryDirectory() as folder:
            prepare(Path(folder))
            kills, faults = check(case, Path(folder))
        print(f"{case}: {kills} kills, {len(faults)} faults", *faults, sep="\n  ", flush=True)
        status |= bool(faults)
    return status


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
