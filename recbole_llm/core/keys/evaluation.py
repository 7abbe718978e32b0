"""RecBole's keys of evaluation: types and ranges. Defaults are RecBole's."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from recbole_llm.core.errors import unknown_name_error
from recbole_llm.core.marks import PartOfProtocol, StoredElsewhere
from recbole_llm.core.metrics import by_kind, computed_metrics, is_read_by
from recbole_llm.core.plugins.loading import get_plugins
from recbole_llm.core.settings import (
    ConfigLike,
    Count,
    FieldName,
    Flag,
    Natural,
    Nested,
    NonNegative,
    OneOrMore,
    Settings,
    split_to_list,
)

PROTOCOLS = {  # what the key `protocol` stands for
    "leave-one-out": {
        "split": {"LS": "valid_and_test"}, "order": "TO", "group_by": "user", "mode": "full",
    },
    "random": {
        "split": {"RS": [0.8, 0.1, 0.1]}, "order": "RO", "group_by": "user", "mode": "full",
    },
}  # fmt: skip
_MODE = re.compile(r"full|labeled|(?:uni|pop)[1-9]\d*")


def _mode(text: str) -> str:
    if not _MODE.fullmatch(text):
        raise ValueError(
            f"mode '{text}' is unknown; choose full, labeled, uniN or popN, N the number of "
            f"sampled negatives, such as uni100"
        )
    return text


def _some(ratios: list[float]) -> list[float]:
    if len(ratios) != 3:
        raise ValueError(
            f"split {ratios} must have three ratios, of training, validation and test; 0 leaves a "
            f"part out"
        )
    if ratios[0] <= 0:
        raise ValueError(
            f"split {ratios} leaves nothing to train on; the first ratio is for training"
        )
    return ratios


Mode = Annotated[str, AfterValidator(_mode)]
Ratios = Annotated[list[NonNegative], AfterValidator(_some)]


class Split(Nested):
    """How interactions are split."""

    RS: Ratios | None = None
    """Ratios of training, validation and test."""
    LS: Literal["valid_and_test", "valid_only", "test_only"] | None = None
    """Leave-one-out: which of validation and test get an interaction of each user."""
    TS: Ratios | None = None
    """Ratios; the test part begins at one time for all users, and the rest is split per user."""

    @model_validator(mode="after")
    def _one(self) -> Self:
        if sum(kind is not None for kind in (self.RS, self.LS, self.TS)) != 1:
            raise ValueError("split: give one of RS, LS and TS, such as {'RS': [8, 1, 1]}")
        return self

    def lacks(self) -> list[str]:
        """Which of validation and test the split leaves out."""
        if self.LS is not None:
            return {"valid_only": ["test"], "test_only": ["validation"]}.get(self.LS, [])
        ratios = (self.RS or self.TS or [])[1:]
        return [part for part, ratio in zip(("validation", "test"), ratios) if not ratio]


class Modes(Nested):
    """Modes of evaluation."""

    valid: Mode | None = None
    """Mode of validation."""
    test: Mode | None = None
    """Mode of test."""


class EvalArgs(Nested):
    """Protocol of evaluation."""

    split: Split | None = None
    """How interactions are split."""
    group_by: Literal["user", "none"] | None = "user"
    """Whether the interactions are split for each user, or all at once."""
    order: Literal["RO", "TO"] = "RO"
    """Random order (RO) or order of time (TO)."""
    mode: Modes | Mode = "full"
    """Full ranking, sampled negatives, or labels."""

    def modes(self) -> tuple[str, str]:
        """The modes of validation and test; as in RecBole, a single one is used for both."""
        if isinstance(self.mode, str):
            return self.mode, self.mode
        first = self.mode.valid or self.mode.test or "full"
        return self.mode.valid or first, self.mode.test or first


class RecBoleEvaluation(Settings):
    """RecBole's keys of evaluation."""

    eval_args: PartOfProtocol[EvalArgs] = EvalArgs()
    """Split, order, grouping and mode."""
    repeatable: Flag = False
    """Whether items of a user's history may be recommended again."""
    metrics: PartOfProtocol[Annotated[list[str], Field(min_length=1), OneOrMore]] = [
        "Recall", "MRR", "NDCG", "Hit", "Precision"
    ]  # fmt: skip
    """Metrics."""
    topk: PartOfProtocol[Annotated[list[Count], Field(min_length=1), OneOrMore]] = [10]
    """Lengths of the ranked lists."""
    valid_metric: PartOfProtocol[FieldName] = "MRR@10"
    """Metric that picks the best epoch."""
    valid_metric_bigger: StoredElsewhere[PartOfProtocol[Flag]] = True
    """Whether a higher valid_metric is better."""
    eval_batch_size: Count = 4096
    """Rows, or scores, in a batch of evaluation."""
    metric_decimal_place: PartOfProtocol[Natural] = 4
    """Decimals of the results."""

    def check(self, config: ConfigLike) -> None:
        """Refuse unknown metrics, metrics of both kinds or that do not fit the mode, a valid_metric
        that is not computed, and `repeatable: False` for sequential models."""
        from recbole.evaluator.register import metric_types, metrics_dict
        from recbole.utils import ModelType

        if config["MODEL_TYPE"] == ModelType.SEQUENTIAL and not self.repeatable:
            raise ValueError(
                f"repeatable: False leaves out items that a user already has, which evaluation "
                f"cannot do for sequential models such as {config['model']}; leave the key out"
            )
        plugins = get_plugins()
        plugins.import_metrics()
        usable = metric_types.keys() & metrics_dict.keys()  # code may have entered one half only
        for metric in self.metrics:
            if metric.lower() not in usable:
                known = sorted(metrics_dict[name].__name__ for name in usable)
                ways = f"choose from {', '.join(known)}; one of your own needs --plugins=FILE.py"
                ways = "; ".join(plugins.failed_metrics) or ways
                raise unknown_name_error("metrics: the metric", metric, known, ways)
        ranked, others = by_kind(self.metrics)
        if ranked and others:
            raise ValueError(
                f"metrics: {', '.join(ranked)} are ranking metrics, {', '.join(others)} are label "
                f"metrics; a run computes only one kind"
            )
        self._check_modes(bool(ranked))
        computed = computed_metrics(self.metrics, self.topk)
        if self.valid_metric.lower() not in [name.lower() for name in computed]:
            raise ValueError(
                f"valid_metric '{self.valid_metric}' is not computed: metrics at topk give "
                f"{', '.join(computed)}; choose one of them, or add it to metrics or topk"
            )

    def _check_modes(self, ranking: bool) -> None:
        modes = self.eval_args.modes()
        if ranking and "labeled" in modes:
            raise ValueError(
                f"eval_args: mode labeled ranks nothing, and metrics {self.metrics} are ranking "
                f"metrics; set mode: full, or metrics such as AUC"
            )
        if not ranking and "full" in modes:
            raise ValueError(
                f"eval_args: mode full ranks the catalogue, and metrics {self.metrics} are label "
                f"metrics; set mode: labeled or uni100, or metrics such as NDCG"
            )
        whole = [m for m in self.metrics if is_read_by([m], "rec.items")]
        longest = max(self.topk)
        candidates = min(
            (int(mode[3:]) + 1 for mode in modes if mode[3:].isdecimal()), default=None
        )
        if whole and candidates is not None and longest > candidates:
            raise ValueError(
                f"topk: with {candidates} candidates, a list of {longest} is filled up with other "
                f"items, which {', '.join(whole)} would read; set --topk={candidates}, or a mode "
                f"with more negatives"
            )


def check_topk(topk: Sequence[int], n_items: int, valid_metric: str = "") -> None:
    """Refuse lists longer than the catalogue. The advice has every key that has to change, also
    `valid_metric` if its list is too long."""
    if max(topk) <= n_items:
        return
    fitting = ",".join(str(k) for k in sorted({min(k, n_items) for k in topk}))
    advice = f"--topk={fitting}"
    name, _, k = valid_metric.rpartition("@")
    if k.isdecimal() and int(k) > n_items:
        advice += f" --valid_metric={name}@{n_items}"
    raise ValueError(
        f"topk: {max(topk)} is more than the {n_items} items of the catalogue; set {advice}"
    )


def check_catalogue(config: ConfigLike, n_items: int) -> None:
    """Refuse lists and sampled candidates for which the catalogue is too small, before texts are
    encoded. Label metrics are exempt, since an item may be drawn for them more than once."""
    if not by_kind(split_to_list(config["metrics"]))[0]:
        return
    for phase in ("valid", "test"):
        drawn = config[f"{phase}_neg_sample_args"]
        if drawn["distribution"] == "none":  # labeled
            continue
        check_topk(config["topk"], n_items, config["valid_metric"])
        if drawn["sample_num"] != "none" and drawn["sample_num"] >= n_items:
            raise ValueError(
                f"eval_args: mode: {drawn['sample_num']} sampled negatives are more than the "
                f"other items of a catalogue of {n_items}; set mode: full"
            )
