"""Quick comparisons: in place of a run, a script writes what the run would write."""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from recbole_llm import testing
from recbole_llm.tasks.compare import pool
from recbole_llm.tasks.compare.executors import Executor, Local, Ray

# argv: file of scores, subcommand, arguments of the run.
RUN = r"""
import json, pathlib, sys
import numpy as np
pairs = dict(a.removeprefix("--").split("=", 1) for a in sys.argv[3:])
scores, output = pathlib.Path(sys.argv[1]), pathlib.Path(pairs["output"])
model, seed = pairs["model"], int(pairs.get("seed", 2020))
diverged = f"error: the training loss of {model} is nan in epoch 1, step 2: lower learning_rate"
with open("started.txt", "a") as file:
    file.write(" ".join([model, str(seed), *filter(None, [pairs.get("resume")])]) + "\n")
if pairs.get("learning_rate") == "1e30":
    sys.exit(f"warning: so what\n{diverged}")
if sys.argv[2] == "trial":
    rate = float(pairs["learning_rate"])
    score = 0.5 + rate if model == "GRU4Rec" else rate
    if seed > 2020 and rate > 0.7:  # these rates do well with one seed alone
        sys.exit(diverged) if rate > 0.8 else None
        score = 0.01
    with scores.open("a") as file:
        file.write(f"{score}\n" * 6)
    output.write_text(json.dumps({"best_valid_score": score}))
    sys.exit()
scores.write_text("0.1\n0.2\n")
rng = np.random.default_rng(len(model) + seed)
values = rng.random(30).round(3) + (model == "GRU4Rec")
users = np.array([f"u{i}" for i in range(30)])
tested = np.arange(30, dtype=np.uint64) + (pairs.get("learning_rate") == "0.5")
shown = {
    "shown_users": users[:2], "shown_items": np.array([["i1", "i2"], ["i4", "i3"]]),
    "target_users": users[:2], "target_items": np.array(["i2", "i5"]), "metric mrr@10": values,
}
np.savez(pairs["user_metrics"], users=users, tested=tested, **shown)
output.write_text(json.dumps({
    "best_valid_score": values[0], "best_valid_result": {"mrr@10": values[0]},
    "valid_metric": "MRR@10", "best_epoch": 2,
    "test_result": {"mrr@10": values.mean(), "mrr@10 (tail items)": 0.5},
    "dataset": "tiny", "data": {"size": {"users": 30, "items": 20}},
    "protocol": "leave-one-out", "repeats": "2 again" if model == "BPR" else "",
    "seconds": {"all": 1.0}, "peak_memory_mib": 100, "parameters": 5,
    "checkpoint": "saved/x.pth", "trainings": [{"curve": [[1, 0.5, 0.1], [2, 1.0, 0.2]]}],
}))
"""


@pytest.fixture
def quick_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Replace runs on the data set ``tiny`` by the script, which notes them in started.txt."""
    testing.write_tiny_dataset("dataset")
    monkeypatch.setattr(
        pool,
        "command_of",
        lambda job: [sys.executable, "-c", RUN, str(job.folder / pool.SCORES), *job.command],
    )


@pytest.fixture
def started() -> Path:
    """The file in which started runs are noted."""
    return Path("started.txt")


@pytest.fixture(params=["local", pytest.param("ray", marks=pytest.mark.slow)])
def executor(request: pytest.FixtureRequest) -> Callable[[int], Executor]:
    """Each executor in turn; it is called with the number of runs at once."""
    if request.param == "local":
        return Local
    return partial(Ray, request.getfixturevalue("ray"))
