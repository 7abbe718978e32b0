"""What both collectors are: RecBole's, whose columns grow by batches."""

from __future__ import annotations

from collections import defaultdict

import torch
from recbole.evaluator.collector import Collector, DataStruct
from torch import Tensor

from recbole_llm.core.config import Config
from recbole_llm.evaluation.groups import GROUPS, Group


class BatchCollector(Collector):  # type: ignore[misc]
    """Keeps each batch's rows, and joins them once at the end.

    RecBole joins them at every batch, which copies all rows before it each time: of a million
    users in batches of 64 that is hundreds of gigabytes.
    """

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        self.active = True  # whether groups are evaluated
        self.groups: list[Group] | None = None
        self._batches: dict[str, list[Tensor]] = defaultdict(list)

    def keep(self, key: str, rows: Tensor) -> None:
        """Take a batch's part [B, …] of a column."""
        self._batches[key].append(rows.detach())

    def get_data_struct(self) -> DataStruct:
        """What was collected, on the CPU; the next evaluation starts anew."""
        # RecBole 1.2.1 calls .cpu() on counts too, which are plain numbers: ItemCoverage,
        # AveragePopularity, GiniIndex and TailPercentage crash there.
        collected = DataStruct()
        for key, value in self.data_struct._data_dict.items():  # of the training data
            collected.set(key, value)
        for key, parts in self._batches.items():
            collected.set(key, torch.cat(parts).cpu())
        self._batches.clear()
        if self.active:
            collected.set(GROUPS, self.groups or [])
        return collected
