"""Top-k metrics by group of users and items: head and tail, cold and warm.

Groups are made from training interactions only. A group of users is evaluated over their rows.
For a group of items only positives of the group count: a row's other positives are ignored, rows
without a positive of the group are left out, and the lists still rank the whole catalogue.
"""

from __future__ import annotations

import reprlib
from collections import OrderedDict
from collections.abc import Mapping
from numbers import Real

import torch
from recbole.evaluator import Evaluator
from recbole.evaluator.base_metric import TopkMetric
from recbole.evaluator.collector import DataStruct

from recbole_llm.core.arrays import FloatArray
from recbole_llm.core.lines import aligned
from recbole_llm.core.log import show
from recbole_llm.core.plugins.loading import get_registry
from recbole_llm.core.processes import distributed
from recbole_llm.evaluation.by_user import ByUser, calculate_by_row, evaluate_rankings_by_user
from recbole_llm.evaluation.groups import GROUPS, Group


class EvaluatorByGroup(Evaluator):  # type: ignore[misc]
    """RecBole's `Evaluator` over the rows of all processes; the first computes the results, and all
    get them. It adds the groups' results and logs them as a table. If ``user_metrics`` is set, the
    first process keeps the users' values of the last test as ``by_user``."""

    by_user: ByUser | None = None

    def evaluate(self, dataobject: DataStruct) -> OrderedDict[str, float]:
        """Results over the rows that all processes collected: in total, then by group."""
        everyone = distributed.gather_to_main(row_columns(dataobject))
        result: OrderedDict[str, float] = OrderedDict()
        if everyone is not None:
            whole = _join_processes(dataobject, everyone)
            by_user = GROUPS in whole and self.config["user_metrics"] is not None
            columns: dict[str, FloatArray] = {}  # of metrics that are means over rows
            for metric in self.metric_class.values():
                found = (
                    calculate_by_row(metric, whole, columns)
                    if by_user
                    else metric.calculate_metric(whole)
                )
                result.update(_check_result(metric, found))
            if GROUPS in whole:
                groups = whole.get(GROUPS)
                result.update(
                    log_groups({group: self._evaluate_group(group, whole) for group in groups})
                )
                if by_user:
                    self.by_user = self._evaluate_users(whole, columns)
        return distributed.broadcast(result)

    def _evaluate_group(self, group: Group, collected: DataStruct) -> dict[str, float]:
        raise NotImplementedError

    def _evaluate_users(self, collected: DataStruct, columns: Mapping[str, FloatArray]) -> ByUser:
        raise NotImplementedError


def _check_result(metric: object, found: object) -> Mapping[str, float]:
    """What a metric returned; ValueError with its plugin's name if that is no {name: number}."""
    if isinstance(found, Mapping) and all(isinstance(value, Real) for value in found.values()):
        return found
    name = type(metric).__name__
    plugin = get_registry().metrics.get(name)
    of = f" of plugin '{plugin}'" if plugin else ""
    raise ValueError(
        f"metric '{name}'{of}: calculate_metric returned {reprlib.repr(found)}; it is to return "
        f"{{name: number}}, such as {{'{name.lower()}@10': 0.5}}"
    )


class GroupEvaluator(EvaluatorByGroup):
    """Evaluator of metrics of ranked lists.

    Keys are ``ndcg@10 (tail items)``, and ``users (tail items)`` and ``items (tail items)`` for
    the numbers of distinct users and positive items evaluated. Metrics that are not computed
    from hits in ranked lists (GAUC, ItemCoverage, …) have no group results, and groups without
    rows have no metrics.
    """

    def _evaluate_group(self, group: Group, collected: DataStruct) -> dict[str, float]:
        users, items = group.count_evaluated(collected)
        result: dict[str, float] = {"users": users, "items": items}
        rows = DataStruct()
        rows.set("rec.topk", group.select_rows(collected))
        if len(rows.get("rec.topk")):
            for metric in self.metric_class.values():
                if isinstance(metric, TopkMetric) and metric.metric_need == ["rec.topk"]:
                    result.update(metric.calculate_metric(rows))
        return result

    def _evaluate_users(self, collected: DataStruct, columns: Mapping[str, FloatArray]) -> ByUser:
        return evaluate_rankings_by_user(collected, columns)


def row_columns(collected: DataStruct) -> dict[str, torch.Tensor]:
    """The columns with a row for each evaluated row; other entries describe the training data."""
    return {k: v for k, v in collected._data_dict.items() if isinstance(v, torch.Tensor)}


def _join_processes(own: DataStruct, everyone: list[dict[str, torch.Tensor]]) -> DataStruct:
    whole = DataStruct()
    whole._data_dict.update(own._data_dict)
    for key in dict.fromkeys(key for part in everyone for key in part):
        # A process without rows lacks the key.
        whole.set(key, torch.cat([part[key] for part in everyone if key in part]))
    return whole


def log_groups(results: Mapping[Group, Mapping[str, float]]) -> dict[str, float]:
    """Log the groups' results as a table; return them as ``ndcg@10 (tail items)``, …."""
    if not results:
        return {}
    by_name = {group.name: own for group, own in results.items()}
    sizes = {group.name: int(group.members.sum()) for group in results}
    show("results by group\n" + format_table(by_name, sizes))
    return {f"{key} ({name})": value for name, own in by_name.items() for key, value in own.items()}


def format_table(results: Mapping[str, Mapping[str, float]], sizes: Mapping[str, int]) -> str:
    """The groups' results as lines of text: size of the group, numbers evaluated, metrics."""
    columns = list(dict.fromkeys(key for own in results.values() for key in own))
    lines = [["group", "size", *columns]]
    for name, own in results.items():
        cells = (own.get(key, "-") for key in columns)
        shown = (f"{cell:.4f}" if isinstance(cell, float) else str(cell) for cell in cells)
        lines.append([name, str(sizes[name]), *shown])
    return "\n".join(aligned(lines, right=True))
