"""Full-ranking evaluation of an untrained model: RecBole's loaders and collector, and ours.

    python tests/benchmarks/bench_evaluation.py --model LightGCN --dataset prime-pantry \\
        --data-path DATA --rounds 1

``seconds`` is the time of ``trainer.evaluate`` over the validation users, ``prepare_seconds`` that
of the split, samplers and loaders. The metrics of both are compared.
"""

from __future__ import annotations

import sys
import time
from typing import Any

import harness

METRICS = "Recall,MRR,NDCG,Hit,Precision"  # RecBole's default


def main() -> None:
    parser = harness.parser(__doc__ or "")
    parser.add_argument("--model", default="LightGCN")
    parser.add_argument("--dataset", default="ml-100k")
    parser.add_argument("--data-path", help="folder of the data set's folder")
    parser.add_argument("--metrics", default=METRICS, help="comma-separated")
    parser.add_argument("--length", type=int, default=20, help="MAX_ITEM_LIST_LENGTH")
    parser.add_argument("--budget", type=float, default=128, help="eval_memory_mib of ours")
    arguments = parser.parse_args()
    if arguments.child:
        harness.report(evaluate(arguments.child, arguments))
        return
    passed = [
        f"--{name.replace('_', '-')}={value}"
        for name, value in vars(arguments).items()
        if name not in ("rounds", "out", "child") and value is not None
    ]
    compared = harness.compare(__file__, ["stock", "ours"], passed, arguments.rounds)
    first, second = (compared["runs"][variant][0]["metrics"] for variant in ("stock", "ours"))
    result = {"arguments": {k: str(v) for k, v in vars(arguments).items()}, **compared}
    result["same_metrics"] = first == second
    harness.write(result, arguments.out)


def evaluate(variant: str, arguments: Any) -> dict[str, Any]:
    """Evaluate once; return seconds to prepare and to evaluate, peak MiB, and metrics."""
    if variant == "ours":  # as the command does, before torch is loaded
        from recbole_llm.commands.shared import rest_when_idle

        rest_when_idle()
    from recbole.data.utils import data_preparation as recbole_preparation
    from recbole.utils import get_model, get_trainer, init_seed

    from recbole_llm.core.runtime import configure_runtime
    from recbole_llm.data.create import create_dataset
    from recbole_llm.data.prepare import data_preparation
    from recbole_llm.steps import build_trainer

    config = _config(arguments)
    stock = variant == "stock"
    if not stock:
        configure_runtime(config)
    init_seed(1, True)
    dataset = _recbole_class(config)(config) if stock else create_dataset(config)
    start = time.perf_counter()
    train, valid, _ = (recbole_preparation if stock else data_preparation)(config, dataset)
    prepare = time.perf_counter() - start
    init_seed(2, True)
    model_class = get_model(config["model"]) if stock else config.model_class
    model = model_class(config, train.dataset).to(config["device"])
    if stock:
        trainer = get_trainer(config["MODEL_TYPE"], config["model"])(config, model)
    else:
        trainer = build_trainer(config, model)
    trainer.eval_collector.data_collect(train)
    before = harness.reset_peak()
    start, cpu = time.perf_counter(), time.process_time()
    metrics = trainer.evaluate(valid, load_best_model=False)
    seconds, cpu = time.perf_counter() - start, time.process_time() - cpu
    return {
        "seconds": seconds, "cpu_seconds": cpu, "prepare_seconds": prepare,
        "mib_above": harness.peak() - before, "steps": len(valid),
        "metrics": {k: float(v) for k, v in metrics.items()},
    }  # fmt: skip


def _config(arguments: Any) -> Any:
    from recbole_llm.core.config import Config

    args = {"split": {"LS": "valid_and_test"}, "order": "TO", "group_by": "user", "mode": "full"}
    settings = {
        "eval_args": args, "metrics": arguments.metrics.split(","), "topk": [10, 20],
        "train_level": "prefix", "MAX_ITEM_LIST_LENGTH": arguments.length,
        "eval_memory_mib": arguments.budget, "metric_decimal_place": 8,
        "load_col": {"inter": ["user_id", "item_id", "timestamp"]},
    }  # fmt: skip
    if arguments.data_path:
        settings["data_path"] = arguments.data_path
    return Config(arguments.model, arguments.dataset, config_dict=settings)


def _recbole_class(config: Any) -> type:
    from recbole.data import dataset
    from recbole.utils import ModelType

    sequential = config["MODEL_TYPE"] == ModelType.SEQUENTIAL
    cls: type = dataset.SequentialDataset if sequential else dataset.Dataset
    return cls


if __name__ == "__main__":
    sys.exit(main())
