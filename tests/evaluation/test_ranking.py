"""Ranking results: RecBole's without ties; with ties, nothing for an item's number."""

from __future__ import annotations

import itertools
from collections import Counter
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from recbole.data.dataset import Dataset
from recbole.data.dataset import SequentialDataset as RecBoleDataset
from recbole.data.utils import data_preparation as recbole_preparation
from recbole.evaluator import Evaluator
from recbole.evaluator.collector import Collector
from recbole.utils import EvaluatorType, get_model, get_trainer, init_seed
from torch import Tensor

from recbole_llm.config import Config
from recbole_llm.data.prepare import data_preparation
from recbole_llm.data.sequence import SequentialDataset
from recbole_llm.evaluation.positives import FEW
from recbole_llm.evaluation.ranking import RankingCollector
from recbole_llm.evaluation.ties import draw_hits, row_draws, shuffled_ties
from recbole_llm.testing import write_tiny_dataset

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
    """RecBole's, but for RecBole 1.2.1's ``.cpu()`` on plain numbers."""

    get_data_struct = RankingCollector.get_data_struct


def train_data(n: int, tokens: list[str] | None = None) -> Any:
    counter = Counter({i: i % 5 + 1 for i in range(1, n)})
    dataset = SimpleNamespace(
        num=lambda field: n, item_counter=counter, user_counter=counter, iid_field="item_id",
        field2id_token={"item_id": tokens or ["[PAD]", *(f"i{i}" for i in range(1, n))]},
    )  # fmt: skip
    return SimpleNamespace(dataset=dataset, _dataset=dataset)


def results(
    cls: type[Collector],
    scores: Tensor,
    positives: list[tuple[int, int]],
    batch: int = 10**9,
    config: Settings | None = None,
    tokens: list[str] | None = None,
) -> dict[str, float]:
    """All metrics of scores [B, n], collected in batches of so many users."""
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


@given(data=st.data(), n=st.integers(8, 40), users=st.integers(1, 12), seed=st.integers(0, 99))
@settings(max_examples=40, deadline=None)
def test_without_ties_recboles_numbers(data: Any, n: int, users: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    scores = np.argsort(rng.random((users, n)), axis=1).astype(np.float32)
    positives = [
        (u, int(i))
        for u in range(users)
        for i in rng.choice(np.arange(1, n), data.draw(st.integers(1, n - 6)), replace=False)
    ]
    tensor = masked(torch.from_numpy(scores))
    used = torch.from_numpy(rng.random((users, n)) < 0.1)
    used[:, :7] = False
    for u, i in positives:
        used[u, i] = False
    tensor[used] = -np.inf
    for metrics in (METRICS, TOPK_METRICS):  # GAUC asks for the places of all positives
        config = evaluation(metrics)
        ours = results(RankingCollector, tensor, positives, batch=5, config=config)
        assert ours == results(MendedCollector, tensor, positives, config=config)


MODELS = [("SASRec", True), ("BPR", True), ("LightGCN", False), ("NeuMF", False)]


@pytest.mark.parametrize(("model", "trained"), MODELS)
def test_models_get_recboles_numbers(tmp_path: Path, model: str, trained: bool) -> None:
    write_tiny_dataset(tmp_path)
    check_model(model, "tiny", trained, data_path=str(tmp_path), MAX_ITEM_LIST_LENGTH=10)


@pytest.mark.slow
@pytest.mark.parametrize("model", ["SASRec", "BPR", "LightGCN", "NeuMF"])
@pytest.mark.parametrize("budget", [2, 512])
def test_ml_100k_gets_recboles_numbers(model: str, budget: float) -> None:
    trained = model != "SASRec"  # whose epoch takes minutes
    check_model(model, "ml-100k", trained, eval_memory_mib=budget)


def check_model(model: str, dataset: str, trained: bool, **changes: Any) -> None:
    order = "TO" if model == "SASRec" else "RO"
    config = Config(model, dataset, config_dict={
        "metrics": METRICS, "topk": [1, 5, 20], "valid_metric": "MRR@5", "train_level": "prefix",
        "metric_decimal_place": 10, "tail_ratio": 0.2, "eval_memory_mib": 0.01,
        "eval_args": {"split": {"RS": [0.8, 0.1, 0.1]}, "order": order, "group_by": "user",
                      "mode": "full"}, **changes,
    })  # fmt: skip
    stock, ours = (RecBoleDataset, SequentialDataset) if model == "SASRec" else (Dataset, Dataset)
    init_seed(1, True)
    expected = recbole_preparation(config, stock(config))
    init_seed(1, True)
    actual = data_preparation(config, ours(config))
    network = get_model(model)(config, expected[0].dataset)
    trainer = get_trainer(config["MODEL_TYPE"], model)(config, network)
    if trained:
        trainer._train_epoch(expected[0], 0)
    metrics = []
    for cls, loaders in ((MendedCollector, expected), (RankingCollector, actual)):
        trainer.eval_collector = cls(config)
        trainer.eval_collector.data_collect(loaders[0])
        metrics.append(dict(trainer.evaluate(loaders[2], load_best_model=False)))
    # Another number of users a step rounds the scores otherwise, in their last bit: of the ranks
    # of all positives, which GAUC sums, one in a hundred thousand may move by one.
    assert metrics[1] == pytest.approx(metrics[0], abs=1e-6)


def random_positives(users: int, n: int) -> list[tuple[int, int]]:
    """One to three positives a user."""
    rng = np.random.default_rng(1)
    chosen = [rng.choice(np.arange(1, n), u % 3 + 1, replace=False) for u in range(users)]
    return [(u, int(i)) for u, items in enumerate(chosen) for i in items]


class TestTies:
    n, users = 61, 200
    rng = np.random.default_rng(0)
    positives = random_positives(users, n)
    constant = masked(torch.zeros(users, n))

    def permuted(
        self, scores: Tensor, seed: int
    ) -> tuple[Tensor, list[tuple[int, int]], list[str]]:
        """The same case with the items renumbered; item 0 stays the padding."""
        rng = np.random.default_rng(seed)
        new = np.r_[0, rng.permutation(np.arange(1, self.n))]  # old id -> new id
        moved = scores[:, np.argsort(new)]
        names = ["[PAD]", *(f"i{i}" for i in range(1, self.n))]
        tokens = [names[old] for old in np.argsort(new)]
        return moved, [(u, int(new[i])) for u, i in self.positives], tokens

    @pytest.mark.parametrize("seed", range(3))
    @pytest.mark.parametrize("levels", [1, 2, 4, 30])
    def test_item_numbers_do_not_matter(self, seed: int, levels: int) -> None:
        scores = masked(
            torch.from_numpy(self.rng.integers(0, levels, (self.users, self.n))).float()
        )
        # Popularity and tail go by item; here all items are alike to them.
        metrics = [m for m in METRICS if m not in ("AveragePopularity", "TailPercentage")]
        config = evaluation(metrics)
        before = results(RankingCollector, scores, self.positives, config=config)
        moved, positives, tokens = self.permuted(scores, seed)
        after = results(RankingCollector, moved, positives, config=config, tokens=tokens)
        assert before == after

    @pytest.mark.parametrize("levels", [1, 3])
    def test_batch_size_does_not_matter(self, levels: int) -> None:
        scores = masked(
            torch.from_numpy(self.rng.integers(0, levels, (self.users, self.n))).float()
        )
        whole = results(RankingCollector, scores, self.positives)
        for batch in (1, 7, 64):
            assert results(RankingCollector, scores, self.positives, batch=batch) == whole

    def test_constant_scores_get_the_mean_over_all_orders(self) -> None:
        one = [(u, int(self.rng.integers(1, self.n))) for u in range(self.users)]
        got = results(RankingCollector, self.constant, one)
        for k in (1, 3, 5):
            assert got[f"recall@{k}"] == pytest.approx(k / 60, abs=1.5 / self.users)
        assert got["gauc"] == pytest.approx(0.5)
        # torch.topk on its own gives the same few items to everybody.
        assert got["itemcoverage@5"] == pytest.approx(60 / 61)

    @pytest.mark.parametrize("levels", [1, 2, 5])
    def test_places_of_all_positives_or_of_hits_only(self, levels: int) -> None:
        """With many positives a row those outside the list are left out first."""
        rng = np.random.default_rng(levels)
        scores = masked(torch.from_numpy(rng.integers(0, levels, (30, self.n))).float())
        many = [(u, int(i)) for u in range(30) for i in rng.choice(range(1, self.n), 20, False)]
        assert len(many) > FEW * 30
        hits_only = results(RankingCollector, scores, many, config=evaluation(TOPK_METRICS))
        everything = results(RankingCollector, scores, many)
        assert hits_only.items() <= everything.items()

    def test_batch_without_positives(self) -> None:
        collector = RankingCollector(evaluation(["Recall", "GAUC"]))
        none = torch.empty(0, dtype=torch.int64)
        collector.eval_batch_collect(self.constant[:2].clone(), None, none, none)
        assert collector.get_data_struct().get("rec.topk").tolist() == [[0] * 6] * 2

    def test_repeats_itself(self) -> None:
        collector = RankingCollector(evaluation())
        collector.data_collect(train_data(self.n))
        rows, items = torch.tensor(self.positives).T
        found = []
        for _ in range(2):
            collector.eval_batch_collect(self.constant.clone(), None, rows, items)
            found.append(collector.get_data_struct().get("rec.topk"))
        assert torch.equal(*found)

    def test_only_the_tied_rows_are_drawn(self) -> None:
        scores = masked(torch.arange(61.0).repeat(4, 1))
        scores[2] = self.constant[0]
        positives = [(0, 60), (1, 58), (2, 5), (3, 1)]
        collector = RankingCollector(evaluation(["Recall"]))
        rows, items = torch.tensor(positives).T
        collector.eval_batch_collect(scores, None, rows, items)
        topk = collector.get_data_struct().get("rec.topk")
        assert topk[[0, 1, 3]].tolist() == [
            [1, 0, 0, 0, 0, 1], [0, 0, 1, 0, 0, 1], [0, 0, 0, 0, 0, 1],
        ]  # fmt: skip


def test_draws_are_uniform_over_all_orders() -> None:
    """Scores 9, 5 5 5 5, 1 with two positives of the four and the first: by enumeration."""
    values = torch.tensor([[9.0, 5, 5, 5, 5]])
    sizes, positives = torch.tensor([[1, 4, 4, 4, 4]]), torch.tensor([[1, 2, 2, 2, 2]])
    count = 60_000
    draws = (torch.arange(count, dtype=torch.float64) + 0.5) / count
    hits = draw_hits(values.expand(count, -1), sizes.expand(count, -1),
                     positives.expand(count, -1), draws)  # fmt: skip
    found = Counter(map(tuple, hits.tolist()))
    orders = {
        (True, *(place in chosen for place in range(4)))
        for chosen in itertools.combinations(range(4), 2)
    }
    assert found.keys() == orders
    assert all(abs(c - count / 6) <= 2 for c in found.values())


def test_certain_hits_are_certain() -> None:
    values = torch.zeros(1000, 6)
    sizes = torch.full((1000, 6), 6)
    hits = draw_hits(values, sizes, sizes, row_draws(0, 1000, values.device))
    assert bool(hits.all())


def test_shuffled_ties_favour_no_item() -> None:
    scores = torch.zeros(4000, 12)
    scores[:, 3] = 1.0
    keys = torch.arange(12) * 977
    items = shuffled_ties(scores, 4, torch.arange(4000), keys)
    assert bool((items[:, 0] == 3).all())
    counts = torch.bincount(items[:, 1:].flatten(), minlength=12)
    others = counts[[i for i in range(12) if i != 3]].double()
    expected = 4000 * 3 / 11
    # Chi-square with 10 degrees of freedom: beyond 30 once in a thousand.
    assert float(((others - expected) ** 2 / expected).sum()) < 30


def test_repeated_positives_count_once() -> None:
    scores = masked(torch.arange(10.0)[None])
    config = evaluation(["Recall"])
    once = results(RankingCollector, scores, [(0, 9), (0, 2)], config=config)
    assert results(RankingCollector, scores, [(0, 9), (0, 9), (0, 2)], config=config) == once
    assert once["recall@1"] == 0.5


def test_list_longer_than_the_catalogue() -> None:
    with pytest.raises(ValueError, match="topk: 20 is more than the 10 items"):
        results(RankingCollector, torch.zeros(1, 10), [(0, 1)], config=evaluation(topk=(20,)))


def test_value_metrics_are_recboles(tmp_path: Path) -> None:
    config = evaluation(["AUC"])
    config.update(eval_type=EvaluatorType.VALUE, LABEL_FIELD="label")
    collector = RankingCollector(config)
    scores, labels = torch.tensor([0.3, 0.1, 0.9]), torch.tensor([0.0, 0.0, 1.0])
    collector.eval_batch_collect(scores, {"label": labels}, None, None)  # type: ignore[arg-type]
    assert Evaluator(config).evaluate(collector.get_data_struct()) == {"auc": 1.0}
