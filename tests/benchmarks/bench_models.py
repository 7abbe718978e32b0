"""Training speed of a method, and the share of the time that each of its parts takes.

    python tests/benchmarks/bench_models.py --model LLMESR --dataset prime-pantry \\
        --data-path DATA --options="--encoder=bundled"

A sample is a supervised target. Time counts for the innermost part that runs. The backward pass
is one part, except for the parts that it calls. The first epoch is not counted.
"""

from __future__ import annotations

import importlib
import os
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from typing import Any

import harness

PARTS = {
    "cross entropy, with its gradient": "recbole_llm.layers.losses:cross_entropy",
    "backward": "torch:Tensor.backward",
    "optimizer": "torch.optim:Adam.step",
    "SASRec: user states": "recbole_llm.models.stock.sasrec:SASRec.states_at",
    "PAD: user states": "recbole_llm.models.pad.model:PAD.states_at",
    "PAD: item vectors": "recbole_llm.models.pad.model:PAD.item_vectors",
    "PAD: MK-MMD": "recbole_llm.models.pad.model:PAD.alignment",
    "LLMESR: states of similar users": "recbole_llm.models.llmesr.model:LLMESR._encode_teachers",
    "LLMESR: user states": "recbole_llm.models.llmesr.model:LLMESR.states_at",
    "LLMESR: item vectors": "recbole_llm.models.llmesr.model:LLMESR.item_vectors",
    "AlphaRec: negatives": "recbole_llm.models.alpharec.graph:InteractionGraph.negatives",
    "AlphaRec: sparse products": "recbole_llm.models.alpharec.graph:weighted_sums",
    "AlphaRec: map": "recbole_llm.models.alpharec.text_map:MLPMap.on_graph",
    "AlphaRec: scores": "recbole_llm.models.alpharec.model:pair_scores",
}
WHOLE = ("LLMESR: states of similar users",)  # other parts that run within these count for them


class Clock:
    """Seconds by part; time counts for the innermost part that runs."""

    def __init__(self) -> None:
        self.seconds: Counter[str] = Counter()
        self.samples = 0
        self.running: list[str] = []
        self.since = 0.0

    def note(self) -> None:
        """Count the time since the last call for the part that ran."""
        now = time.perf_counter()
        if self.running:
            self.seconds[self.running[-1]] += now - self.since
        self.since = now

    def timed(self, part: str, function: Callable[..., Any]) -> Callable[..., Any]:
        """Wrap `function` so that its time counts for `part` while an epoch is timed."""

        def run(*args: Any, **kwargs: Any) -> Any:
            if not self.running or self.running[-1] in WHOLE:
                return function(*args, **kwargs)
            self.note()
            self.running.append(part)
            try:
                return function(*args, **kwargs)
            finally:
                self.note()
                self.running.pop()

        return run


def main() -> None:
    parser = harness.parser(__doc__ or "")
    parser.add_argument("--model", required=True)
    parser.add_argument("--dataset", default="ml-100k")
    parser.add_argument("--data-path", help="folder of the data set's folder")
    parser.add_argument("--options", default="", help="further arguments of the run")
    parser.add_argument("--epochs", type=int, default=3, help="the first is not counted")
    arguments = parser.parse_args()
    if arguments.child:
        harness.report(train(arguments))
        return
    passed = ["--model", arguments.model, "--dataset", arguments.dataset]
    passed += ["--epochs", str(arguments.epochs), f"--options={arguments.options}"]
    if arguments.data_path:
        passed += ["--data-path", os.path.abspath(arguments.data_path)]
    compared = harness.compare(__file__, [arguments.model], passed, arguments.rounds)
    harness.write({"arguments": {k: str(v) for k, v in vars(arguments).items()}, **compared},
                  arguments.out)  # fmt: skip


def train(arguments: Any) -> dict[str, Any]:
    """Train some epochs; return targets per second, and each part's share of the time."""
    from recbole.trainer import Trainer
    from recbole.utils import init_seed

    from recbole_llm import Config
    from recbole_llm.core.runtime import configure_runtime
    from recbole_llm.steps import build_model, build_trainer, load_data

    argv = arguments.options.split()
    argv += [f"--dataset={arguments.dataset}", f"--epochs={arguments.epochs}"]
    argv += [f"--data_path={arguments.data_path}"] if arguments.data_path else []
    config = Config(arguments.model, argv=[*argv, "--show_progress=False"])
    configure_runtime(config)
    init_seed(config["seed"], config["reproducibility"])
    _, loader, *_ = load_data(config)
    model = build_model(config, loader.dataset)
    clock = Clock()
    _watch(clock, model)
    one_epoch = Trainer._train_epoch

    def counted(self: Any, train_data: Any, epoch: int, *args: Any, **kwargs: Any) -> Any:
        if epoch:
            clock.since = time.perf_counter()
            clock.running.append("rest: batches, loss, logging")
        result = one_epoch(self, train_data, epoch, *args, **kwargs)
        clock.note()
        clock.running.clear()
        return result

    Trainer._train_epoch = counted
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        build_trainer(config, model).fit(loader, None, verbose=False, saved=False)
        os.chdir("/")
    total = clock.seconds.total()
    shares = {part: seconds / total for part, seconds in clock.seconds.most_common()}
    return {"samples_a_second": clock.samples / total, "mib": harness.peak(), "shares": shares}


def _watch(clock: Clock, model: Any) -> None:
    """Time every part with the clock, and count the model's targets."""
    for part, address in PARTS.items():
        module, _, path = address.partition(":")
        *outer, name = path.split(".")
        owner = importlib.import_module(module)
        for attribute in outer:
            owner = getattr(owner, attribute)
        setattr(owner, name, clock.timed(part, getattr(owner, name)))
    loss = model.calculate_loss

    def counted(interaction: Any) -> Any:
        if clock.running:
            field = getattr(model, "POS_ITEM_SEQ", None)
            targets = interaction[field].count_nonzero() if field in interaction else None
            clock.samples += len(interaction) if targets is None else int(targets)
        return loss(interaction)

    model.calculate_loss = counted


if __name__ == "__main__":
    sys.exit(main())
