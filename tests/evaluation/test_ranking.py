"""Ranking results without ties are RecBole's numbers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from ranking_cases import (
    METRICS,
    TOPK_METRICS,
    MendedCollector,
    evaluation,
    masked,
    results,
    train_data,
)
from recbole.data.dataset import Dataset
from recbole.data.dataset import SequentialDataset as RecBoleDataset
from recbole.data.utils import data_preparation as recbole_preparation
from recbole.utils import get_model, get_trainer, init_seed

from recbole_llm.core.config import Config
from recbole_llm.data.datasets.sequence import SequentialDataset
from recbole_llm.data.prepare import data_preparation
from recbole_llm.evaluation.ranking import RankingCollector
from recbole_llm.evaluation.ranking_blocks import BlockScores
from recbole_llm.steps import build_trainer, load_data
from recbole_llm.testing import write_tiny_dataset


@given(data=st.data(), n=st.integers(8, 40), users=st.integers(1, 12), seed=st.integers(0, 99))
@settings(max_examples=40)
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


def test_popularity_counts_first_interactions_for_every_model(tmp_path: Path) -> None:
    write_tiny_dataset(tmp_path)
    counted = []
    for model in ("SASRec", "BPR"):
        args = {"split": {"LS": "valid_and_test"}, "order": "TO", "group_by": "user",
                "mode": "full"}  # fmt: skip
        keys = {"data_path": str(tmp_path), "metrics": ["AveragePopularity", "MRR"],
                "eval_args": args}  # fmt: skip
        config = Config(model, "tiny", config_dict=keys)
        collector = RankingCollector(config)
        collector.data_collect(load_data(config)[1])
        counted.append(collector.data_struct.get("data.count_items"))
    assert counted[0] == counted[1] and sum(counted[0].values()) > 300


MODELS = [("SASRec", True), ("BPR", True), ("LightGCN", False), ("NeuMF", False)]


@pytest.mark.parametrize(("model", "trained"), MODELS)
def test_models_get_recboles_numbers(tmp_path: Path, model: str, trained: bool) -> None:
    write_tiny_dataset(tmp_path)
    check_model(model, "tiny", trained, data_path=str(tmp_path), MAX_ITEM_LIST_LENGTH=10)


@pytest.mark.slow
@pytest.mark.parametrize("model", ["SASRec", "BPR", "LightGCN", "NeuMF"])
@pytest.mark.parametrize("budget", [2, 512])
def test_ml_100k_gets_recboles_numbers(model: str, budget: float) -> None:
    trained = model != "SASRec"  # an epoch of SASRec takes minutes
    check_model(model, "ml-100k", trained, eval_memory_mib=budget)


def check_model(model: str, dataset: str, trained: bool, **changes: Any) -> None:
    order = "TO" if model == "SASRec" else "RO"
    config = Config(model, dataset, config_dict={
        "metrics": METRICS, "topk": [1, 5, 20], "valid_metric": "MRR@5", "train_level": "prefix",
        "metric_decimal_place": 10, "tail_ratio": 0.2, "eval_memory_mib": 0.01,
        "exact_times": False,
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
    trainer.eval_collector = MendedCollector(config)
    metrics = []
    for one, loaders in ((trainer, expected), (build_trainer(config, network), actual)):
        one.eval_collector.data_collect(loaders[0])
        metrics.append(dict(one.evaluate(loaders[2], load_best_model=False)))
    if model == "SASRec":  # RecBole does not count the first interactions, which have no row
        for result in metrics:
            for name in [name for name in result if name.startswith(("averagepop", "tailperc"))]:
                del result[name]
    # Another number of users per step changes the last bit of scores. Of the ranks of all
    # positives, which GAUC sums, one in a hundred thousand may then move by one.
    assert metrics[1] == pytest.approx(metrics[0], abs=1e-6)


def test_coverage_and_gini_are_of_the_catalogue_without_the_padding() -> None:
    """Of four items, the first places of three users' lists have items 1, 1 and 2."""
    scores = masked(torch.tensor([[0.0, 4, 3, 2, 1], [0, 4, 3, 2, 1], [0, 3, 4, 2, 1]]))
    config = evaluation(["ItemCoverage", "GiniIndex"], topk=(1, 4))
    got = results(RankingCollector, scores, [(0, 1), (1, 1), (2, 1)], config=config)
    assert got == {
        "itemcoverage@1": 2 / 4, "itemcoverage@4": 1.0,
        "giniindex@1": pytest.approx((1 * 1 + 3 * 2) / (4 * 3)), "giniindex@4": 0.0,
    }  # fmt: skip


@pytest.mark.parametrize("by_blocks", [False, True])
def test_no_list_that_is_filled_up_has_the_padding(by_blocks: bool) -> None:
    """Thirty users have one of four items left to rank, but lists of four items."""
    seen = [(user, item) for user in range(30) for item in (1, 2, 3)]
    rows, items = torch.tensor(seen).T
    scores: Any = masked(torch.zeros(30, 5))
    scores[rows, items] = -torch.inf
    if by_blocks:
        scores = BlockScores(torch.ones(30, 1), torch.ones(5, 1), (rows, items), 2)
    collector = RankingCollector(evaluation(["ItemCoverage"], topk=(4,)))
    collector.data_collect(train_data(5))
    collector.eval_batch_collect(scores, None, torch.arange(30), torch.full((30,), 4))
    lists = collector.get_data_struct().get("rec.items")
    assert lists[:, 0].unique().tolist() == [4]
    assert lists.sort(1).values.unique(dim=0).tolist() == [[1, 2, 3, 4]]


def test_repeated_positives_count_once() -> None:
    scores = masked(torch.arange(10.0)[None])
    config = evaluation(["Recall"])
    once = results(RankingCollector, scores, [(0, 9), (0, 2)], config=config)
    assert results(RankingCollector, scores, [(0, 9), (0, 9), (0, 2)], config=config) == once
    assert once["recall@1"] == 0.5


@pytest.mark.parametrize("k", [10, 20])  # one of the ten columns is the padding
def test_list_longer_than_the_catalogue(k: int) -> None:
    with pytest.raises(ValueError, match=f"topk: {k} is more than the 9 items .* set --topk=9"):
        results(RankingCollector, torch.zeros(1, 10), [(0, 1)], config=evaluation(topk=(k,)))
