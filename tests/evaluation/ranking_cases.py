"""Metrics of given scores through a collector, without a data set."""

from __future__ import annotations

from collections import Counter
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from recbole.data.interaction import Interaction
from recbole.evaluator import Evaluator
from recbole.evaluator.collector import Collector, DataStruct
from recbole.utils import EvaluatorType
from torch import Tensor

TOPK_METRICS = ["Recall", "MRR", "NDCG", "Hit", "Precision", "MAP"]
ITEM_METRICS = [
    "ItemCoverage", "AveragePopularity", "ShannonEntropy", "GiniIndex", "TailPercentage",
]  # fmt: skip
METRICS = [*TOPK_METRICS, "GAUC", *ITEM_METRICS]


class Settings(dict[str, Any]):
    def __getitem__(self, key: str) -> Any:
        return self.get(key)


def evaluation(metrics: list[str] = METRICS, topk: tuple[int, ...] = (1, 3, 5)) -> Settings:
    return Settings(
        eval_args={"mode": {"valid": "full", "test": "full"}}, metrics=metrics, topk=list(topk),
        device=torch.device("cpu"), eval_type=EvaluatorType.RANKING, metric_decimal_place=10,
    )  # fmt: skip


class MendedCollector(Collector):  # type: ignore[misc]
    """RecBole's collector, without RecBole 1.2.1's ``.cpu()`` on plain numbers, and without the
    padding, which RecBole counts as an item."""

    active = False

    def data_collect(self, train_data: Any) -> None:
        super().data_collect(train_data)
        if self.register.need("data.num_items"):
            self.data_struct.set("data.num_items", train_data.dataset.item_num - 1)

    def get_data_struct(self) -> DataStruct:
        collected = DataStruct()
        for key, value in list(self.data_struct._data_dict.items()):
            collected.set(key, value)
            if isinstance(value, torch.Tensor):
                del self.data_struct[key]
        return collected


def train_data(n: int, tokens: list[str] | None = None) -> Any:
    counter = Counter({i: i % 5 + 1 for i in range(1, n)})
    items = torch.tensor(list(counter.elements()), dtype=torch.int64)
    dataset = SimpleNamespace(
        inter_feat=Interaction({"user_id": torch.ones_like(items), "item_id": items}),
        uid_field="user_id", time_field=None, num=lambda field: n, item_num=n,
        item_counter=counter, user_counter=counter,
        iid_field="item_id",
        field2id_token={"item_id": tokens or ["[PAD]", *(f"i{i}" for i in range(1, n))]},
    )  # fmt: skip
    return SimpleNamespace(dataset=dataset)


def results(
    cls: type[Collector],
    scores: Tensor,
    positives: list[tuple[int, int]],
    batch: int = 10**9,
    config: Settings | None = None,
    tokens: list[str] | None = None,
) -> dict[str, float]:
    """All metrics of scores [B, n], collected in batches of `batch` users."""
    config = config or evaluation()
    collector = cls(config)
    collector.data_collect(train_data(scores.shape[1], tokens))
    rows, items = torch.tensor(positives).T
    for first in range(0, len(scores), batch):
        part = (rows >= first) & (rows < first + batch)
        block = scores[first : first + batch].clone()
        collector.eval_batch_collect(block, None, rows[part] - first, items[part])
    metrics: dict[str, float] = Evaluator(config).evaluate(collector.get_data_struct())
    return metrics


def masked(scores: Tensor) -> Tensor:
    scores = scores.clone()
    scores[:, 0] = -np.inf
    return scores
