"""How models are judged, in words."""

from __future__ import annotations

from collections.abc import Sequence

from recbole.data.dataset import Dataset

from recbole_llm.core.config import Config
from recbole_llm.core.recbole_evaluation import EvalArgs, RecBoleEvaluation


def protocol(config: Config, dataset: Dataset) -> str:
    """How interactions are split, and what is ranked."""
    args = RecBoleEvaluation.of(config).eval_args
    items = int(dataset.item_num) - 1
    judged = [_mode(mode, items) for mode in sorted(args.modes())]
    return f"{_split(config, args)}, {' / '.join(judged)}"


def _split(config: Config, args: EvalArgs) -> str:
    if config["benchmark_filename"]:
        return f"ready-made split {', '.join(config['benchmark_filename'])}"
    split, whose = args.split, "each user's " if args.group_by == "user" else ""
    if split is not None and split.LS is not None:
        which = {"valid_and_test": "last two", "valid_only": "last", "test_only": "last"}[split.LS]
        which = which if args.order == "TO" else f"{which} of a random order"
        return f"leave-one-out ({whose}{which} for {split.LS.replace('_', ' ')})"
    if split is not None and split.TS is not None:
        return f"split {_ratio(split.TS)} at a point in time, validation by user"
    ratios = _ratio(split.RS if split is not None and split.RS is not None else [0.8, 0.1, 0.1])
    if args.order == "RO":
        return f"random split ({whose}interactions {ratios})"
    return f"split {ratios} of {whose}interactions in order of time"


def _ratio(ratios: Sequence[float]) -> str:
    return " : ".join(f"{100 * ratio / sum(ratios):g}" for ratio in ratios)


def _mode(mode: str, items: int) -> str:
    if mode == "full":
        return f"all {items:,} items ranked"
    return "labels predicted" if mode == "labeled" else f"ranked among {mode[3:]} sampled items"
