"""The base of both collectors: RecBole's collector with groups, which joins batches only once."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from recbole.data.dataloader import AbstractDataLoader
from recbole.evaluator.collector import Collector, DataStruct
from torch import Tensor

from recbole_llm.core.config import Config
from recbole_llm.evaluation.groups import GROUPS, Group, make_groups


class BatchCollector(Collector):  # type: ignore[misc]
    """Keeps each batch's rows, and joins them once at the end.

    RecBole joins them at every batch and copies all earlier rows each time: for a million users in
    batches of 64, these copies amount to hundreds of gigabytes.
    """

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        self.wants_users = config["user_metrics"] is not None
        self.by_group = self.wants_users or bool(config["eval_groups"])
        self.groups: list[Group] | None = None  # made from the training data
        self._batches: dict[str, list[Tensor]] = defaultdict(list)

    def data_collect(self, train_data: AbstractDataLoader) -> None:
        """Store what the metrics need from the training data, and make the groups."""
        super().data_collect(train_data)
        if self.by_group:
            self.groups = make_groups(self.config, train_data.dataset)

    def check_groups(self) -> None:
        """Refuse to evaluate by group before the groups are made."""
        if self.by_group and self.groups is None:
            raise ValueError(
                "eval_groups: groups are made from training interactions; call "
                "trainer.eval_collector.data_collect(train_data) before trainer.evaluate"
            )

    @contextmanager
    def without_groups(self) -> Iterator[None]:
        """Evaluate without groups and users, as in the validation after every epoch."""
        before, self.by_group = self.by_group, False
        try:
            yield
        finally:
            self.by_group = before

    def begin(self, eval_data: AbstractDataLoader) -> None:
        """Drop the batches of an earlier evaluation that was interrupted."""
        self._batches.clear()

    def keep(self, key: str, rows: Tensor) -> None:
        """Store a batch's part [B, …] of a column."""
        self._batches[key].append(rows.detach())

    def get_data_struct(self) -> DataStruct:
        """Return what was collected, on the CPU, and start anew for the next evaluation."""
        # RecBole 1.2.1 calls .cpu() on counts too, which are plain numbers: ItemCoverage,
        # AveragePopularity, GiniIndex and TailPercentage crash there.
        collected = DataStruct()
        for key, value in self.data_struct._data_dict.items():  # of the training data
            collected.set(key, value)
        for key, parts in self._batches.items():
            collected.set(key, torch.cat(parts).cpu())
        self._batches.clear()
        if self.by_group:
            collected.set(GROUPS, self.groups)
        return collected
