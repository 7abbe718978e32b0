"""A script of test_distributed.py: several processes do runs together, one run after the other.

``processes.py RUNS RESULTS [BATCH]``: two JSON files; the last process dies at batch BATCH.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from recbole_llm import testing
from recbole_llm.commands.shared import run_guarded
from recbole_llm.core.plugins.loading import get_model, get_plugins, list_encoders
from recbole_llm.quick_start import run_recbole_llm
from recbole_llm.trainers.engine import EngineMixin


def do(runs: list[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Train and test each run; return the results, with the losses of all epochs."""
    if "hash" not in list_encoders():
        get_plugins().register(testing, testing.__name__)
    losses: list[Any] = []
    train_epoch = EngineMixin._train_epoch

    def noted(self: Any, *args: Any, **kwargs: Any) -> Any:
        losses.append(train_epoch(self, *args, **kwargs))
        return losses[-1]

    EngineMixin._train_epoch = noted  # type: ignore[method-assign]
    results = []
    try:
        for run in runs:
            losses.clear()
            result = run_recbole_llm(dataset="tiny", config_dict=run)
            results.append({"losses": list(losses), **result})
    finally:
        EngineMixin._train_epoch = train_epoch  # type: ignore[method-assign]
    return results


def die_at(batch: int, model: Any) -> None:
    """End this process at a batch of a model's training, as the system would."""
    loss, left = model.calculate_loss, [batch]

    def calculate_loss(self: Any, interaction: Any) -> Any:
        left[0] -= 1
        if not left[0]:
            os.kill(os.getpid(), signal.SIGKILL)
        return loss(self, interaction)

    model.calculate_loss = calculate_loss


def main(runs_file: str, results_file: str, batch: str = "0") -> None:
    """Do the runs, as each process does; the first process writes the results."""
    rank, processes = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
    runs = json.loads(Path(runs_file).read_text())
    if rank == processes - 1 and int(batch):
        die_at(int(batch), get_model(runs[0]["model"]))
    results = do(runs)
    if not rank:
        Path(results_file).write_text(json.dumps(results))


if __name__ == "__main__":
    sys.exit(run_guarded(lambda: main(*sys.argv[1:])))
