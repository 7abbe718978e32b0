"""Training a stock sequential model: RecBole's loop, and this package's sequence-level one.

Seconds of an epoch without evaluation; stock as installed, and with anomaly detection off:

    python tests/benchmarks/bench_training.py epoch --dataset ml-100k --length 50

Whole runs with early stopping: seconds to stock's best validation score, and test metrics:

    python tests/benchmarks/bench_training.py run --dataset prime-pantry \\
        --data-path DATA --length 20 --seeds 2020 2021 2022

Every run is a process of its own, and the variants take turns. `stock` is RecBole as installed,
whose import turns autograd's anomaly detection on; `stock_quiet` turns it off. Model, optimizer,
learning rate and targets per step are the same for all; `--ours key=value` changes ours.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import tempfile
import time
from typing import Any

import harness

VARIANTS = ("stock", "stock_quiet", "ours")


def main() -> None:
    arguments = _arguments()
    if arguments.child == "ours":  # as the command does, before torch is loaded
        from recbole_llm.commands.shared import rest_when_idle

        rest_when_idle()
    if arguments.child:
        harness.report({"epoch": epochs, "run": whole_run}[arguments.what](arguments))
        return
    result: dict[str, Any] = {"arguments": {k: str(v) for k, v in vars(arguments).items()}}
    if arguments.what == "epoch":
        passed = _passed(arguments)
        result |= harness.compare(__file__, arguments.variants, passed, arguments.rounds)
    else:
        result |= _compare_runs(arguments)
    harness.write(result, arguments.out)


def _arguments() -> argparse.Namespace:
    parser = harness.parser(__doc__ or "")
    parser.add_argument("what", choices=["epoch", "run"])
    parser.add_argument("--model", default="SASRec")
    parser.add_argument("--dataset", default="ml-100k")
    parser.add_argument("--data-path", help="folder of the data set's folder")
    parser.add_argument("--length", type=int, default=50, help="MAX_ITEM_LIST_LENGTH")
    parser.add_argument("--batch", type=int, default=2048, help="train_batch_size: targets a step")
    parser.add_argument("--variants", nargs="+", default=list(VARIANTS), choices=VARIANTS)
    parser.add_argument("--stock-epochs", type=int, default=1, help="epochs timed in a process")
    parser.add_argument("--epochs", type=int, default=5, help="the same for ours; run: at most")
    parser.add_argument("--stopping-step", type=int, default=10)
    parser.add_argument("--seeds", type=int, nargs="+", default=[2020])
    parser.add_argument("--ours", nargs="*", default=[], metavar="KEY=VALUE")
    return parser.parse_args()


def _passed(arguments: argparse.Namespace, **changes: Any) -> list[str]:
    passed = [arguments.what]
    for name, value in {**vars(arguments), **changes}.items():
        if name in ("what", "rounds", "out", "child", "variants") or value in (None, []):
            continue
        values = value if isinstance(value, list) else [value]
        passed += [f"--{name.replace('_', '-')}", *map(str, values)]
    return passed


def epochs(arguments: argparse.Namespace) -> dict[str, Any]:
    """Train some epochs; return their median seconds, without the first if there are several."""
    ours = arguments.child == "ours"
    _, trainer, loaders = _prepare(arguments)
    seconds = []
    for epoch in range(arguments.epochs if ours else arguments.stock_epochs):
        start = time.perf_counter()
        loss = trainer._train_epoch(loaders[0], epoch)
        seconds.append(time.perf_counter() - start)
    typical = statistics.median(seconds[1:] or seconds)
    return {
        "seconds": typical, "first_seconds": seconds[0], "all_seconds": seconds,
        "steps": len(loaders[0]), "loss_per_step": loss / len(loaders[0]), "mib": harness.peak(),
    }  # fmt: skip


def whole_run(arguments: argparse.Namespace) -> dict[str, Any]:
    """Train with early stopping, then test; also return when each epoch ended, and its score."""
    with tempfile.TemporaryDirectory() as folder:
        _, trainer, loaders = _prepare(arguments, folder)
        trace: list[tuple[float, float]] = []
        start = time.perf_counter()
        trainer.fit(
            *loaders[:2], verbose=False, saved=True,
            callback_fn=lambda _, score: trace.append((time.perf_counter() - start, score)),
        )  # fmt: skip
        seconds = time.perf_counter() - start
        test = trainer.evaluate(loaders[2], load_best_model=True)
    best = max(score for _, score in trace)
    return {
        "seconds": seconds, "epochs": len(trace), "best_valid": best,
        "seconds_to_best": next(s for s, score in trace if score == best),
        **{f"test_{name}": float(value) for name, value in test.items()}, "trace": trace,
    }  # fmt: skip


def _compare_runs(arguments: argparse.Namespace) -> dict[str, Any]:
    """Run each variant with each seed; compare the times to the first variant's best score."""
    runs: dict[str, list[dict[str, Any]]] = {variant: [] for variant in arguments.variants}
    for seed in arguments.seeds:
        for variant in arguments.variants:
            passed = _passed(arguments, seeds=[seed])
            runs[variant].append(harness.run_child(__file__, variant, passed))
            shown = {k: v for k, v in runs[variant][-1].items() if k != "trace"}
            print(f"{variant}, seed {seed}: {shown}", file=sys.stderr, flush=True)
    first = runs[arguments.variants[0]]
    summary = {}
    for variant, results in runs.items():
        pairs = [(run, base["best_valid"]) for run, base in zip(results, first, strict=True)]
        reached = [_seconds_to(run["trace"], target) for run, target in pairs]
        summary[variant] = {
            "seconds_to_target": reached,
            "ratio": [
                base["seconds_to_best"] / s if s else None
                for base, s in zip(first, reached, strict=True)
            ],
            **{
                key: {"mean": statistics.mean(values), "sd": _deviation(values)}
                for key in results[0]
                if key.startswith(("test_", "best_"))
                for values in [[run[key] for run in results]]
            },
        }
    return {"summary": summary, "runs": runs}


def _seconds_to(trace: list[tuple[float, float]], target: float) -> float | None:
    return next((seconds for seconds, score in trace if score >= target), None)


def _deviation(values: list[float]) -> float:
    return statistics.stdev(values) if len(values) > 1 else 0.0


def _prepare(arguments: argparse.Namespace, folder: str = "saved") -> tuple[Any, Any, Any]:
    """Configuration, trainer and the three loaders of the variant."""
    settings: dict[str, Any] = {
        "MAX_ITEM_LIST_LENGTH": arguments.length, "train_batch_size": arguments.batch,
        "train_neg_sample_args": None, "seed": arguments.seeds[0], "checkpoint_dir": folder,
        "eval_args": {"split": {"LS": "valid_and_test"}, "order": "TO", "mode": "full"},
        "metrics": ["Recall", "NDCG"], "topk": [10], "valid_metric": "NDCG@10",
        "load_col": {"inter": ["user_id", "item_id", "timestamp"]},
        "stopping_step": arguments.stopping_step, "show_progress": False, "use_gpu": False,
    }  # fmt: skip
    if arguments.data_path:
        settings["data_path"] = arguments.data_path
    if arguments.what == "run":
        settings["epochs"] = max(arguments.epochs, 2)
    if arguments.child == "ours":
        settings |= dict(pair.split("=", 1) for pair in arguments.ours)
        return _prepare_ours(arguments, settings)
    return _prepare_stock(arguments, settings)


def _prepare_ours(arguments: argparse.Namespace, settings: dict[str, Any]) -> tuple[Any, Any, Any]:
    from recbole.utils import init_seed

    from recbole_llm import Config
    from recbole_llm.core.runtime import configure_runtime
    from recbole_llm.steps import build_model, build_trainer, load_data

    config = Config(arguments.model, arguments.dataset, config_dict=settings)
    configure_runtime(config)
    init_seed(config["seed"], config["reproducibility"])
    _, *loaders = load_data(config)
    return config, build_trainer(config, build_model(config, loaders[0].dataset)), loaders


def _prepare_stock(arguments: argparse.Namespace, settings: dict[str, Any]) -> tuple[Any, Any, Any]:
    """Do what RecBole's run_recbole does, with RecBole's own classes."""
    import torch
    from recbole.config import Config
    from recbole.data import create_dataset, data_preparation
    from recbole.utils import get_model, get_trainer, init_seed

    from recbole_llm.core import compat

    compat.apply()
    # RecBole reads its best checkpoint, a pickle, with torch.load as it was before torch 2.6.
    os.environ["TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD"] = "1"
    config = Config(arguments.model, arguments.dataset, config_dict=settings)
    init_seed(config["seed"], config["reproducibility"])
    loaders = data_preparation(config, create_dataset(config))
    init_seed(config["seed"] + config["local_rank"], config["reproducibility"])
    model = get_model(config["model"])(config, loaders[0].dataset).to(config["device"])
    torch.autograd.set_detect_anomaly(arguments.child == "stock")
    return config, get_trainer(config["MODEL_TYPE"], config["model"])(config, model), loaders


if __name__ == "__main__":
    sys.exit(main())
