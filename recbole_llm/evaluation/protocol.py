"""The protocol of an evaluation, in words."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from recbole.data.dataset import Dataset
from recbole.utils import ModelType

from recbole_llm.core.config import Config
from recbole_llm.core.keys.evaluation import EvalArgs, RecBoleEvaluation, Split
from recbole_llm.data.rows.split import sorted_unique


def describe_protocol(config: Config, dataset: Dataset) -> str:
    """How interactions are split, and what is ranked."""
    args = RecBoleEvaluation.of(config).eval_args
    items = int(dataset.item_num) - 1
    valid, test = (_describe_mode(mode, items) for mode in args.modes())
    judged = test if valid == test else f"{valid} on validation, {test} on test"
    return f"{_describe_split(config, args)}, {judged}"


def has_validation(config: Config) -> bool:
    """Whether a run validates, and so has a best epoch."""
    split = RecBoleEvaluation.of(config).eval_args.split
    lacks = split is not None and "validation" in split.lacks()
    return config["eval_step"] > 0 and (bool(config["benchmark_filename"]) or not lacks)


def describe_repeats(config: Config, dataset: Dataset) -> str:
    """The number of interactions that repeat an item of their user, and the effect; "" if none do.

    The effect concerns models that rank only items that a user does not have yet: RecBole keeps a
    held-out item among the candidates, even if it is in training too.
    """
    ranked = "labeled" not in RecBoleEvaluation.of(config).eval_args.modes()
    if config["MODEL_TYPE"] == ModelType.SEQUENTIAL or not ranked:
        return ""
    inter = dataset.inter_feat
    users, items = (np.asarray(inter[f]) for f in (dataset.uid_field, dataset.iid_field))
    pairs = users.astype(np.int64) * dataset.item_num + items
    again = len(inter) - len(sorted_unique(pairs))
    if not again:
        return ""
    return (
        f"{again:,} of {len(inter):,} interactions are with an item that the user already has; "
        f"if held out, they are easy to find (rm_dup_inter=first leaves them out)"
    )


def _describe_split(config: Config, args: EvalArgs) -> str:
    if config["benchmark_filename"]:
        return f"ready-made split {', '.join(config['benchmark_filename'])}"
    split = args.split or Split(RS=[0.8, 0.1, 0.1])  # RecBole's default
    if split.LS is not None:
        which = {"valid_and_test": "last two", "valid_only": "last", "test_only": "last"}[split.LS]
        which = which if args.order == "TO" else f"{which} of a random order"
        return f"leave-one-out (each user's {which} for {split.LS.replace('_', ' ')})"
    ratios = _describe_ratios(split.RS or split.TS or [])
    if split.TS is not None:
        return f"split {ratios} at a point in time, validation by user"
    whose = "each user's " if args.group_by == "user" else ""
    if args.order == "RO":
        return f"random split ({whose}interactions {ratios})"
    return f"split {ratios} of {whose}interactions in order of time"


def _describe_ratios(ratios: Sequence[float]) -> str:
    return " : ".join(f"{100 * ratio / sum(ratios):g}" for ratio in ratios)


def _describe_mode(mode: str, items: int) -> str:
    if mode == "full":
        return f"all {items:,} items ranked"
    if mode == "labeled":
        return "labels predicted"
    return f"ranked among {mode[3:]} sampled items for each one held out"
