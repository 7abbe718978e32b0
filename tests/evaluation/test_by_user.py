"""Metrics by user, whose means are the run's metrics."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from recbole_llm import run_recbole_llm, testing
from recbole_llm.evaluation.by_user import (
    ByUser,
    evaluate_labels_by_user,
    split_auc_by_user,
    split_mean_by_user,
)
from recbole_llm.tasks.compare.significance import paired_differences

QUICK = {"epochs": 1, "show_progress": False, "metric_decimal_place": 12}


def test_shares_of_users_with_one_row_are_the_rows() -> None:
    assert split_mean_by_user(np.array([0, 1, 2]), np.array([0.2, 0.4, 0.9])) == pytest.approx(
        [0.2, 0.4, 0.9]
    )


def test_shares_by_hand() -> None:
    """User 0's rows are 1 and 0, user 1's is 0: they add 1/3 and 0 to the mean, times 2 users."""
    found = split_mean_by_user(np.array([0, 0, 1]), np.array([1.0, 0.0, 0.0]))
    assert found == pytest.approx([2 / 3, 0])
    weighted = split_mean_by_user(np.array([0, 1]), np.array([1.0, 0.5]), np.array([3, 1]), 3)
    assert weighted == pytest.approx([9 / 4, 3 / 8, 0]) and weighted.mean() == 7 / 8


def test_auc_by_hand() -> None:
    """User 0 clicked .9 and not .6, user 1 clicked .5 and not .1: 3 of 4 pairs are in order.

    Placements: .9 is above both others (1), .5 above one of two (.5); .6 is below one of two (.5),
    .1 below both (1). User 0 has 2 · ((1 - .375) / 2 + (.5 - .375) / 2), and so has user 1.
    """
    users, positive = np.array([0, 0, 1, 1]), np.array([True, False, True, False])
    found = split_auc_by_user(users, np.array([0.9, 0.6, 0.5, 0.1]), positive)
    assert found == pytest.approx([0.75, 0.75])
    better = split_auc_by_user(users, np.array([0.9, 0.1, 0.5, 0.6]), positive)
    assert better.mean() == pytest.approx(0.75) and better == pytest.approx([1.25, 0.25])


def test_users_without_both_classes_are_no_evidence_in_gauc() -> None:
    """Three of 100 users have an AUC; two of their 8 sign patterns are as extreme as this one."""
    users = np.concatenate([np.arange(100), np.arange(3)])
    labels = np.concatenate([np.zeros(100), np.ones(3)])
    right, wrong = labels - labels * [[0.0], [2.0]]  # clicks above, and below the others
    both = [
        evaluate_labels_by_user(users, users, scores, labels, ["gauc"]) for scores in (right, wrong)
    ]
    found = paired_differences(*(one.values["gauc"][:, None] for one in both))[0]
    assert found.mean == 1.0 and found.users == (3, 100) and found.p == 2 / 8


# In the AUC, a pair of two users counts for both of them, so users are not independent.
@pytest.mark.parametrize(("metric", "most"), [("auc", 12), ("logloss", 4)])
def test_one_user_with_most_of_the_rows_is_no_evidence(metric: str, most: int) -> None:
    """The models differ only by noise of each user, and one user has 300 of 360 rows."""
    users = np.concatenate([np.zeros(300, int), np.arange(1, 61)])
    rng, low = np.random.default_rng(3), 0
    for _ in range(40):
        labels = rng.integers(0, 2, 360)
        skill = rng.normal(0, 0.1, (2, 61))[:, users]
        scores = 0.5 + skill * (2 * labels - 1) + rng.normal(0, 0.1, (2, 360))
        both = [
            evaluate_labels_by_user(users, users, s.clip(0.01, 0.99), labels, [metric])
            for s in scores
        ]
        low += paired_differences(*(one.values[metric][:, None] for one in both))[0].p < 0.05
    assert low <= most  # of 40; deviations from the mean difference give nearly 40


def test_ties_of_the_auc_count_half() -> None:
    users, positive = np.array([0, 1]), np.array([True, False])
    assert split_auc_by_user(users, np.array([0.5, 0.5]), positive).mean() == 0.5


def test_metrics_of_labels_are_the_means() -> None:
    from sklearn.metrics import log_loss, roc_auc_score

    rng = np.random.default_rng(0)
    users, labels = rng.integers(1, 20, 300), rng.integers(0, 2, 300)
    scores = rng.random(300).round(2).astype(np.float32)
    scores[:2], labels[:2] = (0, 1), (1, 0)  # wrong and certain
    found = evaluate_labels_by_user(users, users, scores, labels, ["auc", "logloss", "gauc"])
    assert found.values["auc"].mean() == pytest.approx(roc_auc_score(labels, scores))
    expected = log_loss(labels, np.clip(scores.astype(np.float64), 1e-15, 1 - 1e-15))
    assert found.values["logloss"].mean() == pytest.approx(expected)
    sizes = np.bincount(users)[found.users]
    aucs = [roc_auc_score(labels[users == u], scores[users == u]) for u in found.users]
    assert found.values["gauc"].mean() == pytest.approx(np.average(aucs, weights=sizes))


@pytest.mark.parametrize("model", ["BPR", "GRU4Rec"])
def test_the_file_of_a_ranking(model: str) -> None:
    testing.write_tiny_dataset("dataset")
    metrics = {"metrics": ["NDCG", "Recall", "MRR", "AveragePopularity", "ItemCoverage"]}
    settings = {**QUICK, **metrics, "topk": [3, 5], "user_metrics": "out/users.npz"}
    result = run_recbole_llm(model, "tiny", config_dict={**settings, "valid_metric": "NDCG@5"})
    with np.load("out/users.npz") as file:
        users = {name: file[name] for name in file.files}
    names = {k.removeprefix("metric ") for k in users if k.startswith("metric ")}
    assert names == {k for k in result["test_result"] if not k.startswith("itemcoverage")}
    for name in names:
        mean = users[f"metric {name}"].mean()
        assert mean == pytest.approx(result["test_result"][name], abs=1e-9), name
    assert len(users["users"]) == len(users["tested"]) == 40
    assert users["shown_items"].shape == (40, 5) and set(users["shown_users"]) <= set(
        users["users"]
    )
    if model == "GRU4Rec":  # each user's last item
        lines = Path("dataset/tiny/tiny.inter").read_text().splitlines()[1:]
        last = {line.split("\t")[0]: line.split("\t")[1] for line in lines}
        assert dict(zip(users["target_users"], users["target_items"])) == last


def test_the_file_of_clicks() -> None:
    testing.write_tiny_dataset("dataset")
    settings = {
        **QUICK, "metrics": ["AUC", "LogLoss", "GAUC"], "valid_metric": "AUC",
        "threshold": {"rating": 3}, "user_metrics": "users.npz", "train_neg_sample_args": None,
        "eval_args": {"split": {"RS": [0.5, 0.2, 0.3]}, "order": "TO", "mode": "labeled"},
        "load_col": {"inter": ["user_id", "item_id", "rating", "timestamp"]},
    }  # fmt: skip
    result = run_recbole_llm("DeepFM", "tiny", config_dict=settings)["test_result"]
    with np.load("users.npz") as users:
        for name in ("auc", "logloss", "gauc"):
            assert users[f"metric {name}"].mean() == pytest.approx(result[name], abs=1e-6), name


def test_of_clicks_the_positives_are_what_a_user_was_tested_on() -> None:
    users, items, labels = np.array([1, 1, 2]), np.array([4, 5, 4]), np.array([1.0, 0.0, 1.0])
    found = evaluate_labels_by_user(users, items, np.array([0.5, 0.2, 0.1]), labels, ["logloss"])
    assert found.pairs.tolist() == [[1, 4], [2, 4]]


def test_all_tested_items_of_a_user_count(tmp_path: Path) -> None:
    tokens = {"user_id": ["[PAD]", "a", "b"], "item_id": ["[PAD]", "i", "j", "k"]}
    dataset: Any = SimpleNamespace(uid_field="user_id", iid_field="item_id", field2id_token=tokens)
    pairs = np.array([[1, 1], [1, 2], [2, 3], [2, 2]])
    ByUser(np.array([1, 2]), {}, pairs).save(tmp_path / "users.npz", dataset)
    with np.load(tmp_path / "users.npz") as file:
        assert file["tested"][0] != file["tested"][1]


def test_the_users_shown_are_the_same_in_any_order(tmp_path: Path) -> None:
    names, rows = [f"u{number}" for number in range(150)], np.arange(1, 151)
    shown = []
    for own in (names, names[::-1]):
        tokens = {"user_id": ["[PAD]", *own], "item_id": ["[PAD]", "i"]}
        dataset: Any = SimpleNamespace(
            uid_field="user_id", iid_field="item_id", field2id_token=tokens
        )
        pairs, lists = np.stack([rows, np.ones_like(rows)], axis=1), np.ones((150, 1), np.int64)
        ByUser(rows, {}, pairs, rows, lists).save(tmp_path / "users.npz", dataset)
        with np.load(tmp_path / "users.npz") as file:
            shown.append(set(file["shown_users"]))
    assert len(shown[0]) == 100 and shown[0] == shown[1]
