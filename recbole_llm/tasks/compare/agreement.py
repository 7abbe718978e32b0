"""One protocol for all models of a comparison; models that cannot follow it are refused."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

from recbole.utils import ModelType

from recbole_llm.core.checks import key_marks
from recbole_llm.core.config import Config
from recbole_llm.core.keys.data import RecBoleData
from recbole_llm.core.keys.evaluation import RecBoleEvaluation
from recbole_llm.core.marks import Mark
from recbole_llm.core.metrics import is_read_by
from recbole_llm.core.model_traits import learns_labels
from recbole_llm.core.plugins.loading import get_registry
from recbole_llm.core.plugins.registry import FeatureSpec
from recbole_llm.data.create import check_files
from recbole_llm.data.settings import EngineSettings, splits_at_random
from recbole_llm.evaluation.beyond import VECTORS
from recbole_llm.evaluation.settings import GroupSettings
from recbole_llm.features.attach import vector_settings
from recbole_llm.features.settings import ItemSettings
from recbole_llm.tasks.compare.entries import (
    Entry,
    check_comparable,
    check_split,
    describe_ignored_keys,
    possible_protocols,
    reads_histories,
)

_FORCED = ("metrics", "topk", "valid_metric")  # as in the first model, unless set by any model
_GROUPS = ["items", "users", "cold"]
_CLICKS = (
    'eval_args="{split: {LS: valid_and_test}, order: TO, mode: uni100}" '
    '--train_neg_sample_args="{distribution: uniform, sample_num: 1}" (for labels in the data: '
    "mode: labeled, --train_neg_sample_args=None)"
)


def unify_protocol(entries: Sequence[Entry]) -> tuple[list[Entry], list[str]]:
    """Give all entries one protocol; returns them, and notes on what was changed for it.

    The metrics and the validation metric are the first model's unless they were set. Splits,
    candidates and data must be the same already.

    Raises:
        ValueError: they are not the same (the message names the key and both models), or the data
            set does not exist.
    """
    first = entries[0]
    forced = {
        key: first.config[key] for key in _FORCED if not any(entry.is_set(key) for entry in entries)
    }
    notes = [
        f"{key}: {_in_words(value)} for all, instead of the defaults of {', '.join(others)}"
        for key, value in forced.items()
        if (others := [entry.label for entry in entries if entry.config[key] != value])
    ]
    for entry in entries:
        check_comparable(entry)
        if entry.config["MODEL_TYPE"] == ModelType.DECISIONTREE:
            raise ValueError(
                f"models: {entry.label} is a decision tree, whose predictions lack the users "
                f"that a comparison tests over; leave it out, or evaluate it by recbole-llm run"
            )
    entries = [entry.with_own(forced) for entry in entries]
    if not any(entry.is_set("eval_groups") for entry in entries) and all(map(_has_groups, entries)):
        entries = [entry.with_own({"eval_groups": _GROUPS}) for entry in entries]
    check_split(first)
    check_files(first.config)
    for entry in entries[1:]:
        _check_alike(entries[0], entry)
    _check_rows(entries)
    return entries, describe_ignored_keys(entries) + notes + _describe_ranked_history(entries)


def describe_random_splits(entry: Entry, seeds: int, tuned: bool) -> list[str]:
    """Notes on what follows from each seed drawing a split of its own, if it does."""
    fixed = EngineSettings.of(entry.config).split_seed is not None
    if seeds == 1 or fixed or not splits_at_random(entry.config):
        return []
    notes = [
        "the split is random, and each seed draws another one: ± covers both models and splits"
    ]
    if tuned:
        notes.append(
            "settings were chosen on the split of the first seed, which trains and validates on "
            "interactions that the other seeds test on: their results may be too good"
        )
    return notes


def _has_groups(entry: Entry) -> bool:
    """Whether the entry's metrics can have results by group."""
    try:
        GroupSettings.model_validate({"eval_groups": _GROUPS}).check(entry.config)
    except ValueError:
        return False
    return True


def _describe_ranked_history(entries: Sequence[Entry]) -> list[str]:
    """Notes on models that rank the items of users' histories: RecBole's sequential models do, the
    others do not. Fixed candidates leave the history out for all."""
    config = entries[0].config
    drawn = EngineSettings.of(config).eval_candidates == "drawn"
    modes = set(RecBoleEvaluation.of(config).eval_args.modes()) - {"labeled"}
    ranked = [entry.label for entry in entries if entry.config["repeatable"]]
    left_out = [entry.label for entry in entries if not entry.config["repeatable"]]
    if not (ranked and left_out and ("full" in modes or (modes and drawn))):
        return []
    return [
        f"items of a user's history are candidates for {', '.join(ranked)}; for "
        f"{', '.join(left_out)} only if they are held out again, so that fewer items are ranked, "
        f"and repeated purchases are easier to find"
    ]


def _check_alike(first: Entry, other: Entry) -> None:
    judged, theirs = _judging_settings(first.config), _judging_settings(other.config)
    for key, value in judged.items():
        if theirs[key] != value:
            way = _common_protocol([first, other]) if key == "eval_args" else f"{key}=…"
            raise ValueError(
                f"{key}: the models are judged differently, so one table cannot compare them: "
                f"{first.label} has {_in_words(value)}, {other.label} {_in_words(theirs[key])}; "
                f"set it for all with --{way}"
            )


def _common_protocol(entries: Sequence[Entry]) -> str:
    """The arguments that give the models one protocol."""
    of_labels = [learns_labels(entry.config.model_class) for entry in entries]
    if all(of_labels):
        return _CLICKS
    protocol = f"protocol={possible_protocols(entries)}"
    return (
        f"{protocol} --metrics=NDCG,Recall --valid_metric=NDCG@10" if any(of_labels) else protocol
    )


def _check_rows(entries: Sequence[Entry]) -> None:
    """Refuse a split by ratio if only some models are sequential: these have no row for a user's
    first interaction, so that the same ratio gives them other interactions."""
    split = RecBoleEvaluation.of(entries[0].config).eval_args.split
    reads = [reads_histories(entry) for entry in entries]
    if split is not None and split.RS is not None and len(set(reads)) > 1:
        first, other = (entries[reads.index(sequential)].label for sequential in (True, False))
        raise ValueError(
            f"eval_args: split RS tests {first}, which reads histories, on other interactions than "
            f"{other}; compare them with --{_common_protocol(entries)}, or each kind with its own"
        )


def _judging_settings(config: Config) -> dict[str, Any]:
    marks = key_marks()
    plain = {
        key: value
        for settings in (RecBoleEvaluation, RecBoleData, EngineSettings, GroupSettings)
        for key, value in settings.of(config).model_dump(mode="json").items()
        if marks[key] & Mark.PART_OF_PROTOCOL
    }
    modes = RecBoleEvaluation.of(config).eval_args.modes()
    plain["eval_args"] = {**plain["eval_args"], "mode": list(dict.fromkeys(modes))}
    plain["metrics"] = [name.lower() for name in plain["metrics"]]
    folder = os.path.realpath(config["data_path"])
    metric_settings = _settings_of_metrics(config, plain["metrics"])
    return {"dataset": config["dataset"], "data_path": folder, **plain, **metric_settings}


def _settings_of_metrics(config: Config, metrics: Sequence[str]) -> dict[str, Any]:
    """Settings that the metrics read; the encoder before its own keys, which others lack."""
    found: dict[str, Any] = {}
    if is_read_by(metrics, VECTORS):
        spec = get_registry().find(FeatureSpec, ItemSettings.of(config).item_feature)
        named = {k.partition(".")[2]: v for k, v in vector_settings(config, spec).items()}
        found |= {key: value for key, value in named.items() if "user" not in key}
    if "tailpercentage" in metrics:
        found["tail_ratio"] = config["tail_ratio"] or 0.1  # as RecBole's metric does
    return found


def _in_words(value: object, within: bool = False) -> str:
    """A setting as YAML has it; a list that is not `within` another value needs no brackets."""
    if isinstance(value, dict):
        parts = (f"{k}: {_in_words(v, True)}" for k, v in value.items() if v is not None)
        return f"{{{', '.join(parts)}}}"
    if not isinstance(value, list):
        return str(value)
    return f"[{text}]" if "," in (text := ", ".join(map(str, value))) and within else text
