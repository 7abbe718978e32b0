"""Training time and memory of BAHE and of the LLM that it replaces, by the length of histories.

    python tests/benchmarks/bench_bahe.py --lengths 10 20 50 100 --out results/bahe-coupled.json

Both use the same blocks of SmolLM2-135M-Instruct and learn the same targets of ml-100k, of users
with full histories. A sample is a target with its history. `prefix` encodes a history per target,
as the coupled LLM does; `sequence`, the default, reads a window once for all of its targets. Memory
is the peak of the whole process in the training steps, including the interpreter and libraries.
"""

from __future__ import annotations

import itertools
import tempfile
import time
from typing import Any

import harness

VARIANTS = {
    "coupled": {"coupled": True, "train_level": "prefix"},
    "prefix": {"train_level": "prefix"},
    "sequence": {"train_level": "sequence"},
}


def child(variant: str, options: Any) -> dict[str, Any]:
    """Return seconds per sample and peak MiB over a few training steps."""
    from recbole_llm.core.config import Config
    from recbole_llm.steps import build_model, build_trainer, load_data, start

    kind, length = variant.split("-")
    keys = {
        **VARIANTS[kind],
        "MAX_ITEM_LIST_LENGTH": int(length),
        "window_stride": int(length),
        "user_inter_num_interval": f"[{int(length) + 3},inf)",
        "encoder_layer": options.low,
        "high_layers": options.high,
        "coupled_max_tokens": 8192,  # nothing is cut
        "train_batch_size": options.batch if kind != "sequence" else 8 * options.batch,
        "train_neg_sample_args": None,
        "threshold": {"rating": 4},
        "eval_args": {"split": {"RS": [8, 1, 1]}, "order": "TO", "mode": "labeled"},
        "show_progress": False,
        "state": "ERROR",
        "checkpoint_dir": tempfile.mkdtemp(),
    }
    config = Config("BAHE", "ml-100k", config_dict=keys)
    start(config)
    _, train, *_ = load_data(config)
    model = build_model(config, train.dataset)
    optimizer = build_trainer(config, model).optimizer
    batches = iter(_full(model, batch, int(length)) for batch in train)
    usable = (batch for batch in batches if len(batch))
    samples = 0
    harness.reset_peak()
    for step, batch in enumerate(itertools.islice(usable, options.steps + 1)):
        if step == 1:  # the first step warms up
            samples, start_time = 0, time.perf_counter()
        optimizer.zero_grad()
        model.calculate_loss(batch).backward()
        optimizer.step()
        targets = batch.interaction.get(model.POS_ITEM_SEQ)
        samples += len(batch) if targets is None else int((targets > 0).sum())
    seconds = time.perf_counter() - start_time
    return {"seconds_a_sample": seconds / samples, "mib": harness.peak()}


def _full(model: Any, batch: Any, length: int) -> Any:
    """The rows whose histories are full."""
    return batch[batch[model.ITEM_SEQ_LEN] == length]


def main() -> None:
    """Compare at every length."""
    parser = harness.parser(__doc__)
    parser.add_argument("--lengths", type=int, nargs="+", default=[10, 20, 50, 100])
    parser.add_argument("--low", type=int, default=8, help="blocks of the lower half")
    parser.add_argument("--high", type=int, default=1, help="blocks of the upper half")
    parser.add_argument("--batch", type=int, default=16, help="samples of a prefix step")
    parser.add_argument("--steps", type=int, default=4, help="steps that are timed")
    options = parser.parse_args()
    if options.child:
        harness.report(child(options.child, options))
        return
    shared = [f"--{name}={getattr(options, name)}" for name in ("low", "high", "batch", "steps")]
    found = {}
    for length in options.lengths:
        names = [f"{kind}-{length}" for kind in VARIANTS]
        found[length] = harness.compare(__file__, names, shared, options.rounds)
    harness.write({"lengths": found}, options.out)


if __name__ == "__main__":
    main()
