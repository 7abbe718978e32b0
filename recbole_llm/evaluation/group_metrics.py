"""Top-k metrics by group of users and items: head and tail, cold and warm.

Groups are made from training interactions alone. A group of users is evaluated over their rows.
In a group of items only positives of the group count: a row's other positives are as if they
were not there, rows without a positive of the group are left out, and the lists stay the lists
over the whole catalogue.
"""

from __future__ import annotations

import contextlib
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from logging import getLogger
from typing import TYPE_CHECKING

import torch
from recbole.evaluator import Evaluator
from recbole.evaluator.base_metric import TopkMetric
from recbole.evaluator.collector import Collector, DataStruct
from torch import Tensor

from recbole_llm.core.lines import aligned
from recbole_llm.core.log import SHOWN
from recbole_llm.evaluation.blocks import BlockScores
from recbole_llm.evaluation.by_user import ByUser, ranking_by_user
from recbole_llm.evaluation.groups import PAIRS, USERS, Group, make_groups
from recbole_llm.evaluation.positives import Positives
from recbole_llm.evaluation.ranking import RankingCollector
from recbole_llm.evaluation.settings import GroupSettings

if TYPE_CHECKING:
    from recbole.data.dataloader import AbstractDataLoader
    from recbole.data.interaction import Interaction

    from recbole_llm.core.config import Config

GROUPS = "group.groups"


class GroupCollector(RankingCollector):
    """`RankingCollector` that also keeps what groups and metrics by user need, while `active`."""

    def __init__(self, config: Config) -> None:
        GroupSettings.of(config).check(config)
        super().__init__(config)
        self._wants_users = config["user_metrics"] is not None
        self.groups: list[Group] | None = None
        self.active = True

    def data_collect(self, train_data: AbstractDataLoader) -> None:
        """Make the groups from the training data."""
        super().data_collect(train_data)
        self.groups = make_groups(self.config, train_data._dataset)

    def eval_batch_collect(
        self,
        scores_tensor: Tensor | BlockScores,
        interaction: Interaction,
        positive_u: Tensor,
        positive_i: Tensor,
    ) -> None:
        """Collect a batch, see the base class."""
        if self.active and self.groups is None:
            raise ValueError(
                "eval_groups: groups are made from training interactions; call "
                "trainer.eval_collector.data_collect(train_data) before trainer.evaluate"
            )
        super().eval_batch_collect(scores_tensor, interaction, positive_u, positive_i)
        if self.active:
            candidates = interaction[self.config["USER_ID_FIELD"]]
            users = row_users(candidates, positive_u, len(scores_tensor))
            pairs = torch.stack([users[positive_u.cpu()], positive_i.cpu()], dim=1)
            self.data_struct.update_tensor(USERS, users)
            self.data_struct.update_tensor(PAIRS, pairs)

    def _needs_lists(self) -> bool:
        return super()._needs_lists() or (self.active and self._wants_users)

    def _hits_of(self, positives: Positives) -> dict[str, Positives]:
        hits = super()._hits_of(positives)
        if self.active and self.groups is not None:
            of_items = [group for group in self.groups if group.of_items]
            hits |= {group.topk_key: positives.of_items(group.members) for group in of_items}
        return hits

    def get_data_struct(self) -> DataStruct:
        """What was collected; the next evaluation starts anew."""
        collected = super().get_data_struct()
        if USERS in collected:
            collected.set(GROUPS, self.groups)
        return collected


@contextlib.contextmanager
def without_groups(collector: Collector) -> Iterator[None]:
    """Evaluate without groups, as in the validation after every epoch."""
    collector.active = False
    try:
        yield
    finally:
        collector.active = True


class EvaluatorByGroup(Evaluator):  # type: ignore[misc]
    """RecBole's `Evaluator`, which adds the groups' results and logs them as a table, and keeps
    the users' values of the last test as ``by_user`` where ``user_metrics`` asks for them."""

    by_user: ByUser | None = None

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        self._wants_users = config["user_metrics"] is not None

    def evaluate(self, dataobject: DataStruct) -> OrderedDict[str, float]:
        """Results over all rows, then by group."""
        result: OrderedDict[str, float] = super().evaluate(dataobject)
        if GROUPS in dataobject:
            groups = dataobject.get(GROUPS)
            result.update(log_groups({group: self._results(group, dataobject) for group in groups}))
            if self._wants_users:
                self.by_user = self._users(dataobject)
        return result

    def _results(self, group: Group, collected: DataStruct) -> dict[str, float]:
        raise NotImplementedError

    def _users(self, collected: DataStruct) -> ByUser:
        raise NotImplementedError


class GroupEvaluator(EvaluatorByGroup):
    """For metrics of ranked lists.

    Keys are ``ndcg@10 (tail items)``, and ``users (tail items)`` and ``items (tail items)`` for
    the numbers of distinct users and positive items evaluated. Metrics that are not computed
    from hits in ranked lists (GAUC, ItemCoverage, …) have no group results, nor have groups
    without rows.
    """

    def _results(self, group: Group, collected: DataStruct) -> dict[str, float]:
        users, items = group.counts(collected)
        result: dict[str, float] = {"users": users, "items": items}
        rows = DataStruct()
        rows.set("rec.topk", group.rows(collected))
        if len(rows.get("rec.topk")):
            for metric in self.metric_class.values():
                if isinstance(metric, TopkMetric) and metric.metric_need == ["rec.topk"]:
                    result.update(metric.calculate_metric(rows))
        return result

    def _users(self, collected: DataStruct) -> ByUser:
        return ranking_by_user(collected, self.metric_class)


def row_users(users: Tensor, positive_rows: Tensor, n_rows: int) -> Tensor:
    """User of each evaluated row, int [n_rows].

    Args:
        users: user of each row; or, where negatives are sampled, of each of its candidates.
        positive_rows: row of each positive, ascending, int [P].
        n_rows: rows.
    """
    users, positive_rows = users.cpu(), positive_rows.cpu()
    if len(users) == n_rows:
        return users
    # Rows lie one after the other, each with `times` candidates a positive.
    counts = torch.bincount(positive_rows, minlength=n_rows)
    times = len(users) // len(positive_rows)
    return users[(counts.cumsum(0) - counts) * times]


def log_groups(results: Mapping[Group, Mapping[str, float]]) -> dict[str, float]:
    """Log the groups' results as a table, and name them: ``ndcg@10 (tail items)``."""
    if not results:
        return {}
    by_name = {group.name: own for group, own in results.items()}
    sizes = {group.name: int(group.members.sum()) for group in results}
    getLogger().info("results by group\n" + table(by_name, sizes), extra=SHOWN)
    return {f"{key} ({name})": value for name, own in by_name.items() for key, value in own.items()}


def table(results: Mapping[str, Mapping[str, float]], sizes: Mapping[str, int]) -> str:
    """The groups' results as lines of text: size of the group, what was evaluated, metrics."""
    columns = list(dict.fromkeys(key for own in results.values() for key in own))
    lines = [["group", "size", *columns]]
    for name, own in results.items():
        lines.append([name, str(sizes[name]), *(str(own.get(key, "-")) for key in columns)])
    return "\n".join(aligned(lines, right=True))
