"""An epoch of SASRec with softmax over the catalogue: RecTools' `SASRecModel`, and ours.

RecTools needs an environment of its own, whose Python is an argument:

    python -m venv rectools && rectools/bin/pip install "rectools[torch]==0.19.0"
    python tests/benchmarks/bench_rectools.py --rectools-python rectools/bin/python \\
        --dataset prime-pantry --data-path DATA --length 20

Both train on all interactions of each user except the last two, in windows of `--length`, with two
blocks of two heads and 64 dimensions. A step of RecTools takes 512 sequences, cut to their last
`--length` interactions; a step of ours takes 2,048 targets, from whole histories.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import harness


def main() -> None:
    parser = harness.parser(__doc__ or "")
    parser.add_argument("--rectools-python", default=sys.executable)
    parser.add_argument("--dataset", default="prime-pantry")
    parser.add_argument("--data-path", type=Path, required=True)
    parser.add_argument("--length", type=int, default=20)
    parser.add_argument("--batch", type=int, default=512, help="sequences a step of RecTools")
    parser.add_argument("--epochs", type=int, default=3, help="epochs timed in a process")
    arguments = parser.parse_args()
    if arguments.child:
        harness.report(train_rectools(arguments))
        return
    runs: dict[str, list[dict[str, Any]]] = {"rectools": [], "ours": []}
    for _ in range(arguments.rounds):
        runs["rectools"].append(_run_rectools(arguments))
        runs["ours"].append(_run_ours(arguments))
        latest = {name: results[-1]["seconds"] for name, results in runs.items()}
        print(latest, file=sys.stderr, flush=True)
    medians = {n: statistics.median(r["seconds"] for r in results) for n, results in runs.items()}
    harness.write(
        {
            "arguments": {k: str(v) for k, v in vars(arguments).items()},
            "median_seconds": medians,
            "ratio": medians["rectools"] / medians["ours"],
            "runs": runs,
        },
        arguments.out,
    )


def _run_rectools(arguments: Any) -> dict[str, Any]:
    command = [
        arguments.rectools_python, "-W", "ignore", __file__, "--child", "rectools",
        f"--dataset={arguments.dataset}", f"--data-path={arguments.data_path.resolve()}",
        f"--length={arguments.length}", f"--batch={arguments.batch}",
        f"--epochs={arguments.epochs}",
    ]  # fmt: skip
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    lines = [line for line in done.stdout.splitlines() if line.startswith(harness.MARK)]
    if not lines:
        raise RuntimeError(f"rectools: exit {done.returncode}\n{done.stderr[-3000:]}")
    result: dict[str, Any] = json.loads(lines[-1].removeprefix(harness.MARK))
    return result


def _run_ours(arguments: Any) -> dict[str, Any]:
    script = str(Path(__file__).with_name("bench_training.py"))
    passed = [
        "epoch", f"--dataset={arguments.dataset}", f"--data-path={arguments.data_path.resolve()}",
        f"--length={arguments.length}", f"--epochs={arguments.epochs + 1}",
    ]  # fmt: skip
    return harness.run_child(script, "ours", passed)


def train_rectools(arguments: Any) -> dict[str, Any]:
    """Median seconds of RecTools' epochs, timed between Lightning's own epoch events."""
    import pandas as pd
    import rectools
    import torch
    from pytorch_lightning import Callback, Trainer
    from rectools import Columns
    from rectools.dataset import Dataset
    from rectools.models import SASRecModel

    times: list[float] = []

    class Clock(Callback):
        def on_train_epoch_start(self, *_: Any) -> None:
            self.start = time.perf_counter()

        def on_train_epoch_end(self, *_: Any) -> None:
            times.append(time.perf_counter() - self.start)

    file = arguments.data_path / arguments.dataset / f"{arguments.dataset}.inter"
    frame = pd.read_csv(file, sep="\t")
    names = {"user_id": Columns.User, "item_id": Columns.Item, "timestamp": Columns.Datetime}
    frame = frame.rename(columns=lambda name: names.get(name.partition(":")[0], name))
    frame = frame.sort_values([Columns.User, Columns.Datetime], kind="stable")
    frame = frame[frame.groupby(Columns.User).cumcount(ascending=False) >= 2]
    frame = frame[[Columns.User, Columns.Item, Columns.Datetime]].assign(**{Columns.Weight: 1})
    # One epoch more than asked: the first also warms up.
    model = SASRecModel(
        n_blocks=2, n_heads=2, n_factors=64, session_max_len=arguments.length, loss="softmax",
        batch_size=arguments.batch, epochs=arguments.epochs + 1,
        get_trainer_func=lambda: Trainer(
            max_epochs=arguments.epochs + 1, accelerator="cpu", logger=False,
            enable_progress_bar=False, enable_model_summary=False, enable_checkpointing=False,
            callbacks=[Clock()],
        ),
    )  # fmt: skip
    model.fit(Dataset.construct(frame))
    return {
        "seconds": statistics.median(times[1:] or times), "all_seconds": times,
        "rectools": rectools.__version__, "torch": torch.__version__,
        "torch_threads": torch.get_num_threads(),
    }  # fmt: skip


if __name__ == "__main__":
    sys.exit(main())
