"""Metrics by kind, and the names and values of their results."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any


def by_kind(metrics: Sequence[str]) -> tuple[list[str], list[str]]:
    """The metrics of rankings, and those of labels.

    To RecBole GAUC is of rankings. Among metrics of labels it is the one that
    `recbole_llm.evaluation.pointwise` computes of labels.
    """
    from recbole.evaluator.register import metric_types
    from recbole.utils import EvaluatorType

    ranked = [m for m in metrics if metric_types[m.lower()] == EvaluatorType.RANKING]
    if len(ranked) < len(metrics):
        ranked = [m for m in ranked if m.lower() != "gauc"]
    return ranked, [m for m in metrics if m not in ranked]


def computed_metrics(metrics: Sequence[str], topk: Sequence[int]) -> list[str]:
    """Names of the results: those of the first k items have an ``@k``, such as NDCG@10."""
    from recbole.evaluator.register import metric_information

    names = []
    for metric in metrics:
        at_k = {"rec.topk", "rec.items"} & set(metric_information[metric.lower()])
        names += [f"{metric}@{k}" for k in topk] if at_k else [metric]
    return names


def is_read_by(metrics: Sequence[str], what: str) -> bool:
    """Whether one of the metrics reads something that was collected, such as "rec.items"."""
    from recbole.evaluator.register import metric_information

    return any(what in metric_information[metric.lower()] for metric in metrics)


def metric_class_name(metric: str) -> str:
    """``MRR@10`` of ``mrr@10``: a metric as its class is called."""
    from recbole.evaluator.register import metrics_dict

    name, at, k = metric.partition("@")
    return f"{metrics_dict[name.lower()].__name__}{at}{k}"


def as_floats(result: Mapping[str, Any] | None) -> dict[str, float] | None:
    """RecBole's results as plain numbers; of those rounded as float32 the digits that are shown."""
    return None if result is None else {name: float(str(value)) for name, value in result.items()}
