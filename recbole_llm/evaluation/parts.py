"""The collector and the evaluator of a configuration."""

from __future__ import annotations

from typing import TYPE_CHECKING

from recbole.evaluator import Evaluator
from recbole.utils import EvaluatorType

from recbole_llm.evaluation.group_metrics import GroupCollector, GroupEvaluator
from recbole_llm.evaluation.pointwise import PointwiseCollector, PointwiseEvaluator
from recbole_llm.evaluation.ranking import RankingCollector

if TYPE_CHECKING:
    from recbole.evaluator.collector import Collector

    from recbole_llm.core.config import Config


def evaluation_parts(config: Config) -> tuple[Collector, Evaluator]:
    """Of rankings or of labels, with groups and users where `eval_groups`, `user_metrics` ask."""
    if config["eval_type"] == EvaluatorType.VALUE:
        return PointwiseCollector(config), PointwiseEvaluator(config)
    if config["eval_groups"] or config["user_metrics"] is not None:
        return GroupCollector(config), GroupEvaluator(config)
    return RankingCollector(config), Evaluator(config)
