"""Metrics by kind, and the names and values of their results."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any


def by_kind(metrics: Sequence[str]) -> tuple[list[str], list[str]]:
    """Split metrics into ranking metrics and label metrics.

    RecBole treats GAUC as a ranking metric. Next to label metrics it counts as one of them, which
    `recbole_llm.evaluation.pointwise` computes.
    """
    from recbole.evaluator.register import metric_types
    from recbole.utils import EvaluatorType

    ranked = [m for m in metrics if metric_types[m.lower()] == EvaluatorType.RANKING]
    if len(ranked) < len(metrics):
        ranked = [m for m in ranked if m.lower() != "gauc"]
    return ranked, [m for m in metrics if m not in ranked]


def computed_metrics(metrics: Sequence[str], topk: Sequence[int]) -> list[str]:
    """Names of the results; metrics of the top k items end in ``@k``, such as NDCG@10."""
    from recbole.evaluator.register import metric_information

    names = []
    for metric in metrics:
        at_k = {"rec.topk", "rec.items"} & set(metric_information[metric.lower()])
        names += [f"{metric}@{k}" for k in topk] if at_k else [metric]
    return names


def is_read_by(metrics: Sequence[str], what: str) -> bool:
    """Whether one of the metrics reads a collected value, such as "rec.items"."""
    from recbole.evaluator.register import metric_information

    return any(what in metric_information[metric.lower()] for metric in metrics)


def metric_class_name(metric: str) -> str:
    """A metric under the name of its class: ``MRR@10`` for ``mrr@10``."""
    from recbole.evaluator.register import metrics_dict

    name, at, k = metric.partition("@")
    return f"{metrics_dict[name.lower()].__name__}{at}{k}"


def as_floats(result: Mapping[str, Any] | None) -> dict[str, float] | None:
    """RecBole's results as plain numbers; float32 values keep only the digits that are printed."""
    return None if result is None else {name: float(str(value)) for name, value in result.items()}
