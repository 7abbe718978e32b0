"""Metrics beyond accuracy, by hand."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from recbole.evaluator.collector import DataStruct

from recbole_llm import run_recbole_llm, testing
from recbole_llm.evaluation.beyond import COUNTS, VECTORS, Diversity, Novelty, Serendipity

CONFIG = {"metric_decimal_place": 6, "topk": [1, 2]}


def collected() -> DataStruct:
    struct = DataStruct()
    struct.set("rec.items", torch.tensor([[1, 2], [3, 2]]))
    struct.set("rec.topk", torch.tensor([[1, 0, 1], [1, 1, 2]]))
    struct.set(COUNTS, np.array([0, 8, 4, 0, 4]))
    struct.set(VECTORS, np.array([[0, 0], [1, 0], [0, 2], [0, 1], [1, 1]], np.float32))
    return struct


def test_novelty() -> None:
    """Of 16 interactions, item 1 has 8 (1 bit), item 2 has 4 (2 bits), item 3 none (as if 1)."""
    found = Novelty(CONFIG).calculate_metric(collected())
    assert found == {"novelty@1": (1 + 4) / 2, "novelty@2": (1.5 + 3) / 2}


def test_serendipity() -> None:
    """Item 1 is the most popular item, item 2 the second. Of the hits 1, 3 and 2, only 3 is in
    neither list of the most popular items."""
    found = Serendipity(CONFIG).calculate_metric(collected())
    assert found == {"serendipity@1": 1 / 2, "serendipity@2": (0 + 1 / 2) / 2}


def test_the_first_item_after_the_most_popular_is_not_obvious() -> None:
    """Item 2 is the second by training interactions, item 4 the third."""
    struct = collected()
    struct.set("rec.items", torch.tensor([[2, 4]]))
    struct.set("rec.topk", torch.tensor([[1, 1, 2]]))
    found = Serendipity(CONFIG).calculate_metric(struct)
    assert found == {"serendipity@1": 1, "serendipity@2": 1 / 2}


def test_of_items_as_popular_the_first_by_id_are_obvious() -> None:
    struct = DataStruct()
    struct.set(COUNTS, np.r_[0, np.tile([1, 2], 200)])
    struct.set("rec.items", torch.arange(2, 202, 2).repeat(2, 1) + torch.tensor([[0], [200]]))
    struct.set("rec.topk", torch.ones(2, 101, dtype=torch.int64))
    shares = Serendipity(CONFIG).row_values(struct)[:, -1]
    assert shares.tolist() == [0, 1]


def test_many_rows_are_each_as_alone() -> None:
    few, many = collected(), DataStruct()
    many._data_dict.update(few._data_dict)
    for key in ("rec.items", "rec.topk"):
        many.set(key, few.get(key).repeat(300, 1))
    for metric in (Serendipity(CONFIG), Diversity(CONFIG)):
        np.testing.assert_array_equal(
            metric.row_values(many), np.tile(metric.row_values(few), (300, 1))
        )


def test_diversity() -> None:
    """The vectors of items 1 and 2 are at right angles; those of 3 and 2 point in one direction."""
    found = Diversity(CONFIG).calculate_metric(collected())
    assert found == {"diversity@1": 0.0, "diversity@2": pytest.approx(1 / 2)}


def test_they_are_metrics_of_any_run_and_of_its_users() -> None:
    testing.write_tiny_dataset("dataset")
    settings = {
        "metrics": ["NDCG", "Novelty", "Serendipity", "Diversity"], "valid_metric": "NDCG@5",
        "topk": [5], "encoder": "hash", "epochs": 1, "user_metrics": "users.npz",
        "show_progress": False, "eval_groups": ["items"],
    }  # fmt: skip
    result = run_recbole_llm("BPR", "tiny", config_dict=settings)["test_result"]
    assert 0 < result["diversity@5"] < 2 and result["novelty@5"] > 3
    assert 0 <= result["serendipity@5"] <= 0.2 * 5
    with np.load("users.npz") as users:
        for name in ("novelty@5", "serendipity@5", "diversity@5"):
            assert users[f"metric {name}"].mean() == pytest.approx(result[name], abs=1e-4)


def test_metrics_of_the_catalogue_are_those_of_knowledge_models_too() -> None:
    """RecBole reads item counts from the loader's `dataset`, which these models' loader lacks."""
    testing.write_tiny_dataset("dataset")
    settings = {
        "metrics": ["ItemCoverage", "GiniIndex", "AveragePopularity", "TailPercentage"],
        "valid_metric": "ItemCoverage@5", "topk": [5], "epochs": 1, "show_progress": False,
    }  # fmt: skip
    result = run_recbole_llm("CKE", "tiny", config_dict=settings)["test_result"]
    assert 0 < result["itemcoverage@5"] <= 1 and 0 < result["giniindex@5"] < 1
    assert result["averagepopularity@5"] > 1 and 0 <= result["tailpercentage@5"] <= 1
