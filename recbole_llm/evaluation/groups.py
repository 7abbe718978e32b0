"""Groups of users and items by training interactions: head and tail, cold and warm."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from recbole.data.dataset import Dataset
from recbole.evaluator.collector import DataStruct
from torch import Tensor

from recbole_llm.core.arrays import BoolArray, IntArray
from recbole_llm.core.settings import ConfigLike
from recbole_llm.data.rows.training import item_counts, user_counts
from recbole_llm.evaluation.settings import GroupSettings

USERS, PAIRS = "group.users", "group.pairs"  # what the collector keeps for the groups
GROUPS = "group.groups"


@dataclass(frozen=True, eq=False)
class Group:
    """A group of users or of items."""

    name: str  # such as ``tail items``
    of_items: bool  # False: of users
    members: Tensor  # bool [n_items] or [n_users]; never the padding

    @property
    def topk_key(self) -> str:
        """Where the collector keeps the hits on a group of items."""
        return f"rec.topk ({self.name})"

    def select_rows(self, collected: DataStruct) -> Tensor:
        """Rows of ``rec.topk`` that the group is evaluated over, int [R, K + 1]."""
        if self.of_items:
            topk = collected.get(self.topk_key)
            return topk[topk[:, -1] > 0]
        return collected.get("rec.topk")[self.members[collected.get(USERS)]]

    def count_evaluated(self, collected: DataStruct) -> tuple[int, int]:
        """Numbers of distinct users and distinct positive items that are evaluated."""
        pairs = collected.get(PAIRS)
        pairs = pairs[self.members[pairs[:, int(self.of_items)]]]
        return len(pairs[:, 0].unique()), len(pairs[:, 1].unique())


def choose_head(counts: IntArray, share: float) -> BoolArray:
    """Whether ids are in the `share` with the highest counts, bool [n]; ties by id; id 0 is not."""
    ids = np.argsort(-counts[1:], kind="stable") + 1
    members = np.zeros(len(counts), dtype=bool)
    members[ids[: max(1, round(share * len(ids)))]] = True
    return members


def make_groups(config: ConfigLike, train_dataset: Dataset) -> list[Group]:
    """The groups that `eval_groups` names, from a train split."""
    settings = GroupSettings.of(config)
    kinds, share = settings.eval_groups, settings.eval_head_share
    if not kinds:
        return []
    items, users = item_counts(train_dataset), user_counts(train_dataset)
    parts = {
        "items": ("head items", "tail items", choose_head(items, share)),
        "cold": ("cold items", "warm items", items <= settings.eval_cold_threshold),
        "new": ("new items", "seen items", items == 0),
        "users": ("head users", "tail users", choose_head(users, share)),
    }
    return [
        Group(name, kind != "users", torch.from_numpy(members & (np.arange(len(members)) > 0)))
        for kind, (first, second, chosen) in parts.items()
        if kind in kinds
        for name, members in ((first, chosen), (second, ~chosen))
    ]
