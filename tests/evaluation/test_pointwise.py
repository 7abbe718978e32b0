"""AUC, LogLoss and GAUC together, and by group, by hand-computed numbers."""

from __future__ import annotations

import logging
import math
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from recbole.data.interaction import Interaction
from recbole.utils import EvaluatorType
from sklearn.metrics import roc_auc_score
from test_groups import config as ranking_config
from test_groups import train_data

from recbole_llm import Config, run_recbole_llm
from recbole_llm.core.processes import distributed
from recbole_llm.evaluation.group_metrics import row_columns
from recbole_llm.evaluation.pointwise import compute_gauc
from recbole_llm.steps import load_data
from recbole_llm.testing import write_tiny_dataset
from recbole_llm.trainers.engine import evaluation_parts

# User 1: the positive beats one of two negatives, AUC 1/2, 3 rows. User 2: AUC 1, 2 rows. User 3:
# no positive, no AUC. User 4: a tie, AUC 1/2, 2 rows.
USERS = [1, 1, 1, 2, 2, 3, 4, 4]
ITEMS = [1, 2, 3, 1, 2, 4, 1, 5]
SCORES = [0.5, 0.7, 0.2, 0.9, 0.3, 0.8, 0.4, 0.4]
LABELS = [1, 0, 0, 1, 0, 0, 1, 0]


def config(**values: Any) -> Any:
    metrics = ["AUC", "LogLoss", "GAUC"]
    base = {"eval_type": EvaluatorType.VALUE, "metrics": metrics, "LABEL_FIELD": "label"}
    more = {"eval_groups": None, "model": "DIN", "valid_metric": "AUC"}
    return ranking_config(**{**base, **more, **values})


def batch(rows: slice) -> tuple[Any, Any, None, None]:
    columns = {"user_id": USERS, "item_id": ITEMS, "label": LABELS}
    fields = {name: torch.tensor(values[rows]) for name, values in columns.items()}
    return torch.tensor(SCORES[rows]), Interaction(fields), None, None


def evaluate(**values: Any) -> dict[str, float]:
    """Results of the rows above, collected in two batches."""
    collector, evaluator = evaluation_parts(config(**values))
    collector.data_collect(train_data())
    collector.eval_batch_collect(*batch(slice(0, 4)))
    collector.eval_batch_collect(*batch(slice(4, None)))
    return dict(evaluator.evaluate(collector.get_data_struct()))


def test_a_process_without_a_batch_has_nothing_to_tell() -> None:
    collector, _ = evaluation_parts(config())
    collector.data_collect(train_data())
    assert "rec.score" not in collector.get_data_struct()


def log_loss(*rows: int) -> float:
    return -sum(
        math.log(SCORES[row] if LABELS[row] else 1 - SCORES[row]) for row in rows
    ) / len(rows)  # fmt: skip


def test_gauc_by_hand() -> None:
    result = evaluate()
    assert list(result) == ["auc", "logloss", "gauc"]
    assert result["gauc"] == pytest.approx((3 * 0.5 + 2 * 1 + 2 * 0.5) / 7, abs=1e-6)
    # Of 15 pairs: .5 beats .2 .3 .4, .9 beats all five, .4 beats .2 .3 and ties with .4.
    assert result["auc"] == pytest.approx((3 + 5 + 2.5) / 15, abs=1e-6)
    assert result["logloss"] == pytest.approx(log_loss(*range(8)), abs=1e-6)


def test_predictions_that_are_no_numbers_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(globals(), "SCORES", [*SCORES[:3], math.nan, *SCORES[4:]])
    with pytest.raises(ValueError, match="1 of 8 predictions are NaN: the model has diverged"):
        evaluate()


def test_groups_by_hand() -> None:
    """Item 1 and user 1 are head; items 1 and 2 are warm."""
    result = evaluate(eval_groups=["items", "users", "cold"])
    expected = {
        "rows (head items)": 3, "users (head items)": 3, "items (head items)": 1,
        "logloss (head items)": log_loss(0, 3, 6),
        "rows (tail items)": 5, "users (tail items)": 4, "items (tail items)": 4,
        "logloss (tail items)": log_loss(1, 2, 4, 5, 7),
        "rows (cold items)": 3, "users (cold items)": 3, "items (cold items)": 3,
        "logloss (cold items)": log_loss(2, 5, 7),
        "rows (warm items)": 5, "users (warm items)": 3, "items (warm items)": 2,
        # .5 beats .3, .9 both, .4 beats .3; within users 1 and 2 the order is wrong and right.
        "auc (warm items)": 4 / 6, "gauc (warm items)": 0.5,
        "logloss (warm items)": log_loss(0, 1, 3, 4, 6),
        "rows (head users)": 3, "users (head users)": 1, "items (head users)": 3,
        "auc (head users)": 0.5, "gauc (head users)": 0.5,
        "logloss (head users)": log_loss(0, 1, 2),
        "rows (tail users)": 5, "users (tail users)": 3, "items (tail users)": 4,
        # .9 beats all three, .4 beats .3 and ties.
        "auc (tail users)": 4.5 / 6, "gauc (tail users)": 0.75,
        "logloss (tail users)": log_loss(3, 4, 5, 6, 7),
    }  # fmt: skip
    grouped = {key: value for key, value in result.items() if "(" in key}
    assert grouped == pytest.approx(expected, abs=1e-6)
    assert evaluate() == {key: value for key, value in result.items() if "(" not in key}


def test_a_group_of_one_row_and_one_of_none() -> None:
    collector, evaluator = evaluation_parts(config(eval_groups=["cold"]))
    collector.data_collect(train_data())
    collector.eval_batch_collect(*batch(slice(0, 2)))  # warm items
    collector.eval_batch_collect(*batch(slice(5, 6)))  # a cold one
    result = evaluator.evaluate(collector.get_data_struct())
    assert result["logloss (cold items)"] == pytest.approx(log_loss(5), abs=1e-6)
    assert result["rows (cold items)"] == 1
    assert "auc (cold items)" not in result and "gauc (cold items)" not in result
    assert evaluate(eval_groups=["cold"], eval_cold_threshold=99)["rows (warm items)"] == 0


@settings(max_examples=60)
@given(st.lists(st.tuples(st.integers(0, 4), st.integers(0, 3), st.booleans()), max_size=40))
def test_grouped_auc_is_the_weighted_mean_of_users_aucs(rows: list[tuple[int, int, bool]]) -> None:
    users, scores, labels = (np.array([row[i] for row in rows], dtype=int) for i in range(3))
    aucs, weights = [], []
    for user in set(users.tolist()):
        own = users == user
        if len(set(labels[own].tolist())) == 2:
            aucs.append(roc_auc_score(labels[own], scores[own]))
            weights.append(own.sum())
    got = compute_gauc(users, scores, labels)
    if aucs:
        assert got == pytest.approx(np.average(aucs, weights=weights))
    else:
        assert math.isnan(got)


def test_gauc_without_a_user_of_both_classes_warns_once(caplog: pytest.LogCaptureFixture) -> None:
    collector, evaluator = evaluation_parts(config())
    collector.eval_batch_collect(*batch(slice(5, 7)))  # users 3 and 4, a row each
    with caplog.at_level(logging.WARNING):
        result = evaluator.evaluate(collector.get_data_struct())
    assert math.isnan(result["gauc"])
    collector.eval_batch_collect(*batch(slice(5, 7)))
    assert math.isnan(evaluator.evaluate(collector.get_data_struct())["gauc"])
    assert caplog.text.count("no user has rows of both classes") == 1
    assert result["logloss"] == pytest.approx(log_loss(5, 6), abs=1e-6)


def test_evaluations_do_not_mix_and_validation_goes_without_groups() -> None:
    collector, evaluator = evaluation_parts(config(eval_groups=["items"]))
    with collector.without_groups():  # the groups are not known yet
        collector.eval_batch_collect(*batch(slice(0, 3)))
        first = evaluator.evaluate(collector.get_data_struct())
    assert list(first) == ["auc", "logloss", "gauc"]
    collector.data_collect(train_data())
    collector.eval_batch_collect(*batch(slice(0, 5)))
    assert evaluator.evaluate(collector.get_data_struct())["rows (head items)"] == 2


@pytest.mark.parametrize("values", [{"eval_groups": ["items"]}, {"user_metrics": "users.npz"}])
def test_groups_need_the_training_data(values: dict[str, Any]) -> None:
    collector, _ = evaluation_parts(config(**values))
    with pytest.raises(ValueError, match="data_collect"):
        collector.eval_batch_collect(*batch(slice(0, 3)))


def test_processes_share_their_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    values = {"eval_groups": ["items", "users"]}
    parts = []
    for rows in (slice(0, 2), slice(2, None)):
        collector, evaluator = evaluation_parts(config(**values))
        collector.data_collect(train_data())
        collector.eval_batch_collect(*batch(rows))
        parts.append(collector.get_data_struct())

    monkeypatch.setattr(
        distributed, "gather_to_main", lambda _: [row_columns(part) for part in parts]
    )
    together = dict(evaluator.evaluate(parts[0]))
    monkeypatch.undo()
    assert together == evaluate(**values)


@pytest.mark.parametrize("values", [{"eval_groups": ["users"], "metrics": ["AUC"]}, {}])
def test_decision_trees_name_no_users(values: dict[str, Any]) -> None:
    collector, _ = evaluation_parts(config(**values))
    with pytest.raises(ValueError, match="GAUC, groups and metrics by user need the user"):
        collector.eval_collect(torch.tensor(SCORES), torch.tensor(LABELS))
    collector, evaluator = evaluation_parts(config(metrics=["AUC"]))
    collector.eval_collect(torch.tensor(SCORES), torch.tensor(LABELS))
    assert evaluator.evaluate(collector.get_data_struct()) == {"auc": 0.7}


def test_gauc_is_of_values_beside_auc_and_of_rankings_else() -> None:
    write_tiny_dataset("dataset")
    both = {"metrics": ["AUC", "GAUC"], "valid_metric": "GAUC", "data_path": "dataset"}
    beside = Config("DIN", "tiny", config_dict=both)
    assert (beside["eval_type"], beside["metrics"]) == (EvaluatorType.VALUE, ["AUC", "GAUC"])
    ranked = Config("SASRec", "tiny", config_dict={**both, "metrics": ["GAUC", "MRR"]})
    assert ranked["eval_type"] == EvaluatorType.RANKING
    with pytest.raises(ValueError, match="MRR are ranking metrics, GAUC, AUC are label"):
        Config("DIN", "tiny", config_dict={**both, "metrics": ["GAUC", "AUC", "MRR"]})


RUN = {
    "epochs": 1, "show_progress": False, "data_path": "dataset",
    "MAX_ITEM_LIST_LENGTH": 10, "metrics": ["AUC", "LogLoss", "GAUC"],
}  # fmt: skip
LABELED = {
    "threshold": {"rating": 3}, "train_neg_sample_args": None,
    "eval_args": {"split": {"RS": [6, 2, 2]}, "order": "TO", "mode": "labeled"},
}  # fmt: skip


@pytest.mark.parametrize("how", [{}, LABELED], ids=["sampled", "labeled"])
@pytest.mark.parametrize("model", ["DIN", "DeepFM"])
def test_stock_models_report_groups(model: str, how: dict[str, Any]) -> None:
    write_tiny_dataset("dataset")
    negatives = {"eval_args": {"mode": "uni5"}, "train_neg_sample_args": {"sample_num": 1}}
    changes = how or (negatives if model == "DeepFM" else {})
    plain = run_recbole_llm(model, "tiny", config_dict={**RUN, **changes}, saved=False)
    groups = {"eval_groups": ["items", "users", "cold"]}
    grouped = run_recbole_llm(model, "tiny", config_dict={**RUN, **changes, **groups}, saved=False)
    assert grouped["best_valid_result"] == plain["best_valid_result"]
    test = grouped["test_result"]
    assert plain["test_result"] == {k: v for k, v in test.items() if "(" not in k}
    assert list(plain["test_result"]) == ["auc", "logloss", "gauc"]
    assert test["users (head users)"] + test["users (tail users)"] == 40
    assert {"auc (head users)", "gauc (tail users)", "logloss (tail items)"} <= set(test)


@pytest.mark.parametrize("modes", [("labeled", "uni5"), ("uni5", "labeled")])
def test_labels_on_one_part_and_sampled_candidates_on_the_other(
    modes: tuple[str, str], caplog: pytest.LogCaptureFixture
) -> None:
    """A part with labels has a row for each interaction; a part with candidates has six."""
    write_tiny_dataset("dataset")
    args = {"split": {"RS": [8, 1, 1]}, "mode": dict(zip(("valid", "test"), modes))}
    keys = {
        "metrics": ["AUC"], "valid_metric": "AUC", "eval_args": args, "threshold": {"rating": 3},
        "train_neg_sample_args": None, "epochs": 1, "show_progress": False,
    }  # fmt: skip
    assert run_recbole_llm("DeepFM", "tiny", config_dict=keys)["test_result"]["auc"] > 0
    parts = load_data(Config("DeepFM", "tiny", config_dict=keys))[-2:]
    for mode, part in zip(modes, parts, strict=True):
        rows = sum(len(batch[0]) for batch in part)
        assert rows == len(part.dataset) * (1 if mode == "labeled" else 6)
    assert "mode uni5 takes all held-out rows for positives, though 202 of 493" in caplog.text
