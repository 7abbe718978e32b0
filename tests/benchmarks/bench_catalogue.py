"""SASRec with millions of items: a training step with sampled softmax, and ranking for 64 users.

``bench_catalogue.py --items 1000000 --variants train-sparse rank-blocks``. ``train-`` is followed
by a value of ``item_table``; ``train-unfused`` is ``train-dense`` without ``fused_optimizer``.
``rank-blocks`` ranks as evaluation does; ``rank-whole`` scores all items at once, for as many users
as fit in ``eval_memory_mib``. Histories and targets follow Zipf's law; negatives are uniform. Times
are CPU times, which other processes disturb less than the clock.
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
from recbole_llm.data.loading.ranking_step import ranking_step, user_bytes
from recbole_llm.steps import build_trainer

VARIANTS = ("train-sparse", "train-dense", "train-unfused", "rank-blocks", "rank-whole")
ROWS, LENGTH, NEGATIVES, STEPS, USERS = 20, 50, 100, 12, 64  # 1,000 targets a step


def main() -> None:
    arguments = parser(__doc__ or "")
    arguments.add_argument("--items", type=int, nargs="+", default=[1_000_000])
    arguments.add_argument("--variants", nargs="+", default=VARIANTS, choices=VARIANTS)
    options = arguments.parse_args()
    if options.child:
        kind, _, way = options.child.partition("-")
        report((train if kind == "train" else rank)(options.items[0], way))
        return
    found = {}
    for items in options.items:
        found[str(items)] = compare(
            __file__, options.variants, [f"--items={items}"], options.rounds
        )
        del found[str(items)]["ratios"]  # training against ranking says nothing
    write(found, options.out)


def trainer_of(items: int, way: str) -> tuple[Any, dict[str, float]]:
    """Return a new SASRec's trainer, the CPU seconds to build it, and the memory before, in MiB."""
    config = Config("SASRec", config_dict={
        "loss_type": "SSM", "item_table": "dense" if way == "unfused" else way,
        "fused_optimizer": way != "unfused", "show_progress": False,
        "train_neg_sample_args": {"distribution": "uniform", "sample_num": NEGATIVES},
    })  # fmt: skip
    torch.manual_seed(0)
    before, start = reset_peak(), time.process_time()
    model = config.model_class(config, SimpleNamespace(num=lambda field: items + 1))
    trainer = build_trainer(config, model)
    return trainer, {"before_mib": before, "build_cpu_s": time.process_time() - start}


def train(items: int, way: str) -> dict[str, Any]:
    """Return CPU seconds per step, and the peak memory that training adds, in MiB."""
    trainer, found = trainer_of(items, way)
    rng, steps = np.random.default_rng(0), []
    for _ in range(STEPS):
        batch = draw(rng, items, ROWS)
        start = time.process_time()
        trainer.optimizer.zero_grad()
        trainer.model.calculate_loss(batch).backward()
        trainer.optimizer.step()
        steps.append(time.process_time() - start)
    return {**found, "step_cpu_s": median(steps[2:]), "peak_mib": peak() - found["before_mib"]}


def rank(items: int, way: str) -> dict[str, Any]:
    """Return CPU and clock seconds of ranking for all users, and the peak memory that ranking adds
    to the model's, in MiB."""
    trainer, found = trainer_of(items, "sparse")
    catalogue, budget = (
        SimpleNamespace(item_num=items + 1),
        2**20 * trainer.config["eval_memory_mib"],
    )
    step, trainer._items_a_block = ranking_step(trainer.config, catalogue, budget)
    if way == "whole":
        step = max(int(budget // user_bytes(trainer.config, catalogue)), 1)
        trainer._items_a_block = None
    trainer.tot_item_num = items + 1
    users = draw(np.random.default_rng(0), items, USERS)
    trainer.model.eval()
    built, cpu, clock = reset_peak(), time.process_time(), time.perf_counter()
    with torch.no_grad():
        for row in range(0, USERS, step):
            some = users[row : row + step]
            positives = torch.arange(len(some)), some["pos_item_id_list"][:, -1]
            interaction, scores, *positives = trainer._full_sort_batch_eval(
                (some, None, *positives)
            )
            trainer.eval_collector.eval_batch_collect(scores, interaction, *positives)
    cpu, clock = time.process_time() - cpu, time.perf_counter() - clock
    return {
        **found,
        "users_a_step": step,
        "items_a_block": trainer._items_a_block or items + 1,
        "rank_cpu_s": cpu,
        "rank_s": clock,
        "rank_mib": peak() - built,
        "peak_mib": peak() - found["before_mib"],
        "hits": int(trainer.eval_collector.get_data_struct().get("rec.topk")[:, :-1].sum()),
    }


def draw(rng: Any, items: int, rows: int) -> Interaction:
    """Windows with targets at all positions, and negatives."""
    history = torch.from_numpy(rng.zipf(1.2, (rows, LENGTH + 1)) % items + 1)
    negatives = torch.from_numpy(rng.integers(1, items + 1, (rows, LENGTH, NEGATIVES)))
    return Interaction({
        "item_id_list": history[:, :-1],
        "item_length": torch.full((rows,), LENGTH),
        "pos_item_id_list": history[:, 1:],
        "neg_item_id_list": negatives,
    })  # fmt: skip


if __name__ == "__main__":
    main()
