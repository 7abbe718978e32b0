"""Recommending for many users from an exported model: memory, users per second, latency.

    python tests/benchmarks/bench_recommend.py --users 1000000 --items 10000 --output result.json

Users and items are generated. The model is a SASRec that is trained for one epoch and exported; its
histories are then replaced by those of `--users`. For comparison: torch's product and top-k alone.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

LENGTH, K = 20, 10
# Not ru_maxrss, which on Linux begins at the peak of the process that starts this one.
COMMAND = """
import sys; sys.path.append(sys.argv[1])
from harness import peak
from recbole_llm.cli import main
try: main(sys.argv[2:])
finally: print(round(peak()))
"""


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--users", type=int, default=1_000_000)
    parser.add_argument("--items", type=int, default=10_000)
    parser.add_argument("--output", default="result.json")
    arguments = parser.parse_args()
    target = Path(arguments.output).resolve()
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        make_model(arguments.items)
        raw = raw_speed(arguments.items)
        result: dict[str, Any] = {
            "users": arguments.users,
            "items": arguments.items,
            "torch_product_and_topk_users_a_second": round(raw),
            "latency_ms": latency(),
            "runs": [
                run(users, arguments.items) for users in (arguments.users // 10, arguments.users)
            ],
        }
    target.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(result, indent=1))


def make_model(items: int) -> None:
    """Train SASRec, and export it to ``model/``."""
    import recbole_llm

    rng = np.random.default_rng(0)
    Path("dataset/made").mkdir(parents=True)
    lines = ["user_id:token\titem_id:token\ttimestamp:float"]
    order = rng.permutation(items)
    lines += [f"u{i // 10}\ti{item}\t{i}" for i, item in enumerate(order)]
    Path("dataset/made/made.inter").write_text("\n".join(lines) + "\n", encoding="utf-8")
    keys = {"epochs": 1, "MAX_ITEM_LIST_LENGTH": LENGTH, "state": "ERROR", "data_path": "dataset"}
    done = recbole_llm.run_recbole_llm("SASRec", "made", config_dict=keys)
    recbole_llm.export(done["checkpoint"], "model")


def raw_speed(items: int) -> float:
    """Users per second of torch's product and top-k alone."""
    import torch

    states, vectors = torch.randn(1024, 64), torch.randn(items, 64)
    start = time.perf_counter()
    for _ in range(10):
        torch.topk(states @ vectors.t(), K)
    return 10 * 1024 / (time.perf_counter() - start)


def latency() -> dict[str, float]:
    """Milliseconds to load and give the first answer, and for 1 and 64 users after that."""
    from recbole_llm.tasks.recommend import Standalone

    rng = np.random.default_rng(1)
    start = time.perf_counter()
    model = Standalone("model")
    tokens = model.item_tokens[1:]

    def ask(users: int) -> float:
        own = {str(u): rng.choice(tokens, LENGTH).tolist() for u in range(users)}
        start = time.perf_counter()
        model.recommend(histories=own, k=K)
        return 1000 * (time.perf_counter() - start)

    ask(1)
    loaded = 1000 * (time.perf_counter() - start)
    found = {n: sorted(ask(n) for _ in range(20))[10] for n in (1, 64)}
    return {
        "load_and_first": round(loaded, 1),
        **{f"users_{n}": round(v, 2) for n, v in found.items()},
    }


def replace_users(names: list[str], starts: np.ndarray, items: np.ndarray) -> None:
    """Replace the histories of the exported model, and their digest, which is checked."""
    from recbole_llm.core.checkpoints.tokens import encode_names
    from recbole_llm.core.digest import file_digest

    others = {"other_starts": np.zeros(len(names) + 1, np.int64), "other_items": items[:0]}
    np.savez("model/users.npz", starts=starts, items=items, **others, **encode_names(names))
    settings = Path("model/settings.json")
    content = json.loads(settings.read_text(encoding="utf-8"))
    content["sha256"]["users.npz"] = file_digest(Path("model/users.npz"))
    settings.write_text(json.dumps(content), encoding="utf-8")


def run(users: int, items: int) -> dict[str, float]:
    """Time and peak memory of the command, in a process of its own."""
    rng = np.random.default_rng(2)
    starts = np.arange(users + 1) * LENGTH
    own = rng.integers(1, items + 1, users * LENGTH, dtype=np.int32)
    replace_users(list(map(str, range(users))), starts, own)
    argv = [str(Path(__file__).resolve().parent), "recommend", "--model=model", "--users=all"]
    argv += [f"-k{K}", "--output=out.parquet"]
    start = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-c", COMMAND, *argv], capture_output=True, text=True, check=True
    )
    seconds = time.perf_counter() - start
    return {
        "users": users,
        "seconds": round(seconds, 1),
        "users_a_second": round(users / seconds),
        "peak_memory_mib": int(done.stdout),
    }


if __name__ == "__main__":
    main()
