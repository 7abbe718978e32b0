"""The collector and the evaluator of a configuration."""

from __future__ import annotations

from recbole.evaluator.collector import Collector
from recbole.utils import EvaluatorType

from recbole_llm.core.config import Config
from recbole_llm.evaluation.group_metrics import EvaluatorByGroup, GroupEvaluator
from recbole_llm.evaluation.pointwise import PointwiseCollector, PointwiseEvaluator
from recbole_llm.evaluation.ranking import RankingCollector


def evaluation_parts(config: Config) -> tuple[Collector, EvaluatorByGroup]:
    """The collector and the evaluator for labels or for rankings, as ``eval_type`` says."""
    if config["eval_type"] == EvaluatorType.VALUE:
        return PointwiseCollector(config), PointwiseEvaluator(config)
    return RankingCollector(config), GroupEvaluator(config)
