"""Which metrics there are, and whether those of a configuration go together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from recbole_llm.core.errors import unknown

if TYPE_CHECKING:
    from recbole_llm.core.recbole_evaluation import RecBoleEvaluation


def check_metrics(settings: RecBoleEvaluation) -> None:
    """Refuse metrics that do not exist, that do not go together, or that do not fit the mode.

    Raises:
        ValueError: an unknown metric; metrics of rankings beside metrics of labels; a mode of the
            other kind; a `valid_metric` that is not computed.
    """
    from recbole.evaluator.register import metric_types, metrics_dict

    from recbole_llm.core.plugins import get_plugins

    get_plugins().import_metrics()
    for metric in settings.metrics:
        if metric.lower() not in metric_types:
            known = sorted(metric_class.__name__ for metric_class in metrics_dict.values())
            raise unknown("metrics: the metric", metric, known)
    ranked, others = by_kind(settings.metrics)
    if ranked and others:
        raise ValueError(
            f"metrics: {', '.join(ranked)} are of rankings, {', '.join(others)} of labels; a run "
            f"computes one kind"
        )
    _check_modes(settings, bool(ranked))
    computed = computed_metrics(settings.metrics, settings.topk)
    if settings.valid_metric.lower() not in [name.lower() for name in computed]:
        raise ValueError(
            f"valid_metric '{settings.valid_metric}' is not computed: metrics at topk give "
            f"{', '.join(computed)}; choose one of them, or add it to metrics or topk"
        )


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


def _check_modes(settings: RecBoleEvaluation, ranking: bool) -> None:
    modes = settings.eval_args.modes()
    if ranking and "labeled" in modes:
        raise ValueError(
            f"eval_args: mode labeled ranks nothing, and metrics {settings.metrics} are of "
            f"rankings; set mode: full, or metrics such as AUC"
        )
    if not ranking and "full" in modes:
        raise ValueError(
            f"eval_args: mode full ranks the catalogue, and metrics {settings.metrics} are of "
            f"labels; set mode: labeled or uni100, or metrics such as NDCG"
        )


def computed_metrics(metrics: Sequence[str], topk: Sequence[int]) -> list[str]:
    """Names of the results, such as NDCG@10."""
    return [
        f"{name}@{k}" if k else name for name in metrics for k in (topk if _at_k(name) else [None])
    ]


def _at_k(metric: str) -> bool:
    """Whether a metric is of the first k items, and so has an ``@k`` to its name."""
    from recbole.evaluator.register import metric_information

    needs = metric_information[metric.lower()]
    return "rec.topk" in needs or "rec.items" in needs


def as_floats(result: Mapping[str, Any] | None) -> dict[str, float] | None:
    """RecBole's results as plain numbers; of those rounded as float32 the digits that are shown."""
    return None if result is None else {name: float(str(value)) for name, value in result.items()}
