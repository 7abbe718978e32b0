"""SASRec with sampled softmax over catalogues of millions: a step and a ranking, and their memory.

``bench_catalogue.py --items 1000000``; variants are the values of ``item_table``. Histories and
targets are drawn by Zipf's law, negatives evenly.
"""

from __future__ import annotations

import time
from statistics import median
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from harness import compare, parser, peak, report, reset_peak, write
from recbole.data.interaction import Interaction

from recbole_llm.core.config import Config
from recbole_llm.quick_start import build_trainer

VARIANTS = ("sparse", "dense")
ROWS, LENGTH, NEGATIVES, STEPS, USERS = 20, 50, 100, 12, 8  # 1,000 targets a step


def main() -> None:
    arguments = parser(__doc__ or "")
    arguments.add_argument("--items", type=int, default=1_000_000)
    arguments.add_argument("--tables", nargs="+", default=VARIANTS, choices=VARIANTS)
    options = arguments.parse_args()
    if options.child:
        report(measure(options.items, options.child))
        return
    passed = [f"--items={options.items}"]
    write(compare(__file__, options.tables, passed, options.rounds), options.out)


def measure(items: int, table: str) -> dict[str, Any]:
    """CPU seconds (which other processes do not change) of a training step and of ranking for a
    user, and the peak of memory in MiB."""
    sampled = {"distribution": "uniform", "sample_num": NEGATIVES}
    settings = {"loss_type": "SSM", "train_neg_sample_args": sampled, "item_table": table}
    config = Config("SASRec", config_dict={**settings, "show_progress": False})
    before, start = reset_peak(), time.process_time()
    model = config.model_class(config, SimpleNamespace(num=lambda field: items + 1))
    trainer = build_trainer(config, model)
    built, rng, steps = time.process_time() - start, np.random.default_rng(0), []
    for _ in range(STEPS):
        batch = draw(rng, items)
        start = time.process_time()
        trainer.optimizer.zero_grad()
        model.calculate_loss(batch).backward()
        trainer.optimizer.step()
        steps.append(time.process_time() - start)
    trained = peak()
    model.eval()
    start = time.process_time()
    with torch.no_grad():
        for row in range(USERS):  # a user a step, as eval_memory_mib: 128 has it from 8 M items on
            torch.topk(model.full_sort_predict(batch[row : row + 1]), 10)
    return {
        "build_cpu_s": built,
        "step_cpu_s": median(steps[2:]),
        "rank_user_cpu_s": (time.process_time() - start) / USERS,
        "train_mib": trained - before,
        "all_mib": peak() - before,
    }


def draw(rng: Any, items: int) -> Interaction:
    """A batch of windows with targets at all positions, and negatives."""
    shape = (ROWS, LENGTH + 1)
    history = torch.from_numpy(rng.zipf(1.2, shape) % items + 1)
    negatives = torch.from_numpy(rng.integers(1, items + 1, (ROWS, LENGTH, NEGATIVES)))
    return Interaction({
        "item_id_list": history[:, :-1],
        "item_length": torch.full((ROWS,), LENGTH),
        "pos_item_id_list": history[:, 1:],
        "neg_item_id_list": negatives,
    })  # fmt: skip


if __name__ == "__main__":
    main()
