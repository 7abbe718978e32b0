"""Interactions on disk: their preparation, and training from disk compared with from memory.

``bench_disk.py --interactions 1000000`` runs these variants: ``prepare`` sorts a generated file;
``disk`` and ``memory`` train SASRec on it for an epoch or for ``--steps``. Users are uniform, with
20 interactions on average; items follow Zipf's law. Rows are in order of time up to 3 s.
"""

from __future__ import annotations

import shutil
import threading
import time
from contextlib import suppress
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from harness import compare, parser, report, write

from recbole_llm.core.config import Config
from recbole_llm.data.create import create_dataset
from recbole_llm.data.datasets.disk import column_folder
from recbole_llm.data.prepare import data_preparation
from recbole_llm.steps import build_model, build_trainer

VARIANTS = ("prepare", "disk", "memory")
SETTINGS: dict[str, Any] = {
    "item_table": "sparse", "loss_type": "SSM", "hidden_size": 16, "inner_size": 32, "n_layers": 1,
    "n_heads": 1, "train_neg_sample_args": {"distribution": "uniform", "sample_num": 10},
    "train_batch_size": 8192, "show_progress": False, "use_gpu": False,
}  # fmt: skip


def main() -> None:
    arguments = parser(__doc__ or "")
    arguments.add_argument("--interactions", type=int, default=1_000_000)
    arguments.add_argument("--items", type=int, default=1_000_000)
    arguments.add_argument("--memory", type=int, default=1024, help="sort_memory_mib")
    arguments.add_argument("--steps", type=int, help="of training; by default an epoch")
    arguments.add_argument("--variants", nargs="+", default=VARIANTS, choices=VARIANTS)
    arguments.add_argument("--folder", type=Path, default=Path("bench_disk"))
    options = arguments.parse_args()
    if options.child:
        report(measure(options))
        return
    folder = options.folder / f"made{options.interactions}"
    generate(folder, options.interactions, options.items)
    passed = [f"--{name}={getattr(options, name)}" for name in ("interactions", "memory", "folder")]
    passed += [] if options.steps is None else [f"--steps={options.steps}"]
    write(compare(__file__, options.variants, passed, options.rounds), options.out)


def generate(folder: Path, interactions: int, items: int, seed: int = 0) -> None:
    """Write the ``.inter`` file, unless it is there."""
    import pyarrow
    from pyarrow import csv

    target = folder / f"{folder.name}.inter"
    if target.is_file():
        return
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(seed)
    with (folder / "part").open("wb") as file:
        file.write(b"user_id:token\titem_id:token\ttimestamp:float\n")
        for start in range(0, interactions, 1_000_000):
            size = min(1_000_000, interactions - start)
            drawn = rng.zipf(1.2, 3 * size)
            columns = {
                "user": rng.integers(interactions // 20, size=size),
                "item": np.resize(drawn[drawn <= items], size),
                "time": 1_600_000_000 + start + np.arange(size) + rng.integers(-3, 4, size),
            }
            form = csv.WriteOptions(include_header=False, delimiter="\t")
            csv.write_csv(pyarrow.table(columns), file, form)
    (folder / "part").rename(target)


def measure(options: Any) -> dict[str, Any]:
    """Return wall and CPU seconds, and peak MiB: of the whole process, and without pages of files,
    which the system reclaims when it needs them."""
    name = f"made{options.interactions}"
    own = {**SETTINGS, "data_path": str(options.folder), "sort_memory_mib": options.memory}
    where = "memory" if options.child == "memory" else "disk"
    config = Config("SASRec", name, config_dict={**own, "interactions": where})
    with Peak(options.folder / name) as peak:
        if options.child == "prepare":
            shutil.rmtree(options.folder / name / f"{name}.sorted", ignore_errors=True)
            result = timed("prepare", lambda: column_folder(config))
            result["prepare_s_per_million"] = result["prepare_s"] / options.interactions * 1e6
        else:
            result = train(config, options.steps)
    return {**result, **peak.result}


def train(config: Config, steps: int | None) -> dict[str, float]:
    """Time an epoch's batches alone, and the training on them."""
    loader: Any = None
    model: Any = None

    def start() -> None:
        nonlocal loader, model
        loader = data_preparation(config, create_dataset(config))[0]
        model = build_trainer(config, build_model(config, loader.dataset))

    result = timed("start", start)
    targets = 0

    def batches(action: Any) -> None:
        nonlocal targets
        targets = 0
        for batch in islice(loader, steps):
            targets += int((batch["pos_item_id_list"] != 0).sum())
            action(batch)

    def step(batch: Any) -> None:
        model.optimizer.zero_grad()
        model.model.calculate_loss(batch).backward()
        model.optimizer.step()

    result |= timed("batches", lambda: batches(lambda batch: None))
    result["batches_targets_per_s"] = targets / result["batches_s"]
    result |= timed("epoch", lambda: batches(step))
    result["epoch_targets_per_s"] = targets / result["epoch_s"]
    return {**result, "targets": targets, "windows": len(loader.windows)}


def timed(name: str, action: Any) -> dict[str, float]:
    """Seconds that an action takes."""
    wall, cpu = time.perf_counter(), time.process_time()
    action()
    return {f"{name}_s": time.perf_counter() - wall, f"{name}_cpu_s": time.process_time() - cpu}


class Peak:
    """The peak memory of this process and the peak size of an unfinished folder on disk, sampled
    20 times a second within the context."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.disk = folder, 0.0

    def __enter__(self) -> Peak:
        self.all, self.anonymous = self.before = _memory()
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._look)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()
        self.result = {
            "peak_mib": self.all,
            "peak_without_files_mib": self.anonymous,
            "before_mib": self.before[0],
            "before_without_files_mib": self.before[1],
            "peak_disk_mib": self.disk,
        }

    def _look(self) -> None:
        while not self._over.wait(0.05):
            now = _memory()
            self.all, self.anonymous = max(self.all, now[0]), max(self.anonymous, now[1])
            self.disk = max(self.disk, _disk(self.folder))


def _disk(folder: Path) -> float:
    blocks = 0
    for file in folder.glob("*.recbole-llm-part/**/*"):
        with suppress(OSError):  # the file may be gone
            blocks += file.stat().st_blocks
    return blocks * 512 / 2**20


def _memory() -> tuple[float, float]:
    lines = Path("/proc/self/status").read_text().splitlines()
    status = dict(line.split(":", 1) for line in lines)
    return int(status["VmRSS"].split()[0]) / 1024, int(status["RssAnon"].split()[0]) / 1024


if __name__ == "__main__":
    main()
