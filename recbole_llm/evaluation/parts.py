"""The collector and the evaluator of a configuration."""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING

import torch
from recbole.evaluator import Evaluator
from recbole.evaluator.collector import Collector, DataStruct
from recbole.utils import EvaluatorType

from recbole_llm.core import distributed
from recbole_llm.evaluation.by_user import ByUser
from recbole_llm.evaluation.group_metrics import GroupCollector, GroupEvaluator
from recbole_llm.evaluation.pointwise import PointwiseCollector, PointwiseEvaluator
from recbole_llm.evaluation.ranking import RankingCollector

if TYPE_CHECKING:
    from recbole_llm.core.config import Config


class SharedEvaluator:
    """Results over the rows of all processes, computed in the first and known to all.

    Args:
        evaluator: of all rows.
    """

    def __init__(self, evaluator: Evaluator) -> None:
        self.evaluator = evaluator

    @property
    def by_user(self) -> ByUser | None:
        """Metrics of each user of the last test, in the first process, where they are wanted."""
        found: ByUser | None = getattr(self.evaluator, "by_user", None)
        return found

    def evaluate(self, dataobject: DataStruct) -> OrderedDict[str, float]:
        """Results of what the processes collected, each from its rows."""
        everyone = distributed.to_main(rows_of(dataobject))
        result: OrderedDict[str, float] = OrderedDict()
        if everyone is not None:
            result = self.evaluator.evaluate(_together(dataobject, everyone))
        return distributed.from_main(result)


def rows_of(collected: DataStruct) -> dict[str, torch.Tensor]:
    """What has a row for each that was evaluated; the rest is of the training data."""
    return {k: v for k, v in collected._data_dict.items() if isinstance(v, torch.Tensor)}


def _together(own: DataStruct, everyone: list[dict[str, torch.Tensor]]) -> DataStruct:
    whole = DataStruct()
    whole._data_dict.update(own._data_dict)
    for key in dict.fromkeys(key for part in everyone for key in part):
        # A process that had no rows has no such key.
        whole.set(key, torch.cat([part[key] for part in everyone if key in part]))
    return whole


def evaluation_parts(config: Config) -> tuple[Collector, SharedEvaluator]:
    """Of rankings or of labels, with groups and users where `eval_groups`, `user_metrics` ask."""
    if config["eval_type"] == EvaluatorType.VALUE:
        return PointwiseCollector(config), SharedEvaluator(PointwiseEvaluator(config))
    if config["eval_groups"] or config["user_metrics"] is not None:
        return GroupCollector(config), SharedEvaluator(GroupEvaluator(config))
    return RankingCollector(config), SharedEvaluator(Evaluator(config))
