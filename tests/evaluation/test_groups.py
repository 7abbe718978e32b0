"""Groups and their metrics by hand-computed numbers.

Five items and five users. Training interactions of items 1…5: 4, 3, 1, 0, 0; of users 1…5:
3, 2, 1, 1, 1. So item 1 and user 1 are head at a share of 0.2.
"""

from __future__ import annotations

import math
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from recbole.data.interaction import Interaction
from recbole.evaluator.metrics import NDCG
from recbole.utils import EvaluatorType

from recbole_llm import run_recbole_llm
from recbole_llm.core.processes import distributed
from recbole_llm.evaluation.group_metrics import format_table, row_columns
from recbole_llm.evaluation.groups import choose_head, make_groups
from recbole_llm.evaluation.ranking import row_users
from recbole_llm.evaluation.settings import GroupSettings
from recbole_llm.testing import write_tiny_dataset
from recbole_llm.trainers.engine import evaluation_parts

SECOND = 1 / math.log2(3)  # gain at place 2
USERS = [1, 1, 1, 2, 2, 3, 4, 5]
ITEMS = [1, 2, 3, 1, 2, 1, 1, 2]


def config(**values: Any) -> Any:
    base = {
        "eval_groups": ["items", "users", "cold"],
        "user_metrics": None,
        "eval_head_share": 0.2,
        "eval_cold_threshold": 1,
        "eval_type": EvaluatorType.RANKING,
        "eval_args": {"mode": {"test": "full"}},
        "metrics": ["NDCG", "Recall", "Hit", "MRR"],
        "topk": [2],
        "metric_decimal_place": 6,
        "device": torch.device("cpu"),
        "USER_ID_FIELD": "user_id",
        "ITEM_ID_FIELD": "item_id",
    }
    return {**base, **values}


def train_data() -> Any:
    inter = Interaction({"user_id": torch.tensor(USERS), "item_id": torch.tensor(ITEMS)})
    dataset = SimpleNamespace(
        uid_field="user_id", iid_field="item_id", time_field=None, dataset_name="tiny",
        inter_feat=inter, user_num=6, item_num=6,
        field2id_token={"item_id": np.array([f"i{n}" for n in range(6)])},
    )  # fmt: skip
    return SimpleNamespace(dataset=dataset)


def evaluate(
    scores: Any, users: list[int], positives: list[tuple[int, int]], **values: Any
) -> dict[str, float]:
    """Results for score rows [B, 6] of users [B] and (row, item) positives."""
    collector, evaluator = evaluation_parts(config(**values))
    collector.data_collect(train_data())
    rows, items = torch.tensor(positives).t()
    batch = Interaction({"user_id": torch.tensor(users)})
    scored = torch.tensor(scores, dtype=torch.float)
    collector.eval_batch_collect(scored, batch, rows, items)
    return dict(evaluator.evaluate(collector.get_data_struct()))


def ranking(*items: int) -> list[float]:
    """Scores that rank these items first, in order."""
    scores = [-math.inf, 0.1, 0.2, 0.3, 0.4, 0.5]
    for place, item in enumerate(items):
        scores[item] = 10.0 - place
    return scores


def leave_one_out(**values: Any) -> dict[str, float]:
    scores = [ranking(2, 1), ranking(2, 1), ranking(1, 2, 3), ranking(4, 5), ranking(1, 2)]
    positives = [(0, 2), (1, 1), (2, 3), (3, 4), (4, 2)]
    return evaluate(scores, [1, 2, 3, 4, 5], positives, **values)


def test_metrics_are_computed_once_though_users_values_are_kept(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    calls: list[int] = []
    own = NDCG.metric_info
    monkeypatch.setattr(NDCG, "metric_info", lambda *args: (calls.append(1), own(*args))[1])
    without = leave_one_out(eval_groups=[])
    kept = leave_one_out(eval_groups=[], user_metrics="users.npz")
    assert kept == without and len(calls) == 2


def test_members() -> None:
    groups = {g.name: g.members.nonzero().view(-1).tolist() for g in make_groups(
        config(), train_data().dataset
    )}  # fmt: skip
    assert groups == {
        "head items": [1],
        "tail items": [2, 3, 4, 5],
        "cold items": [3, 4, 5],
        "warm items": [1, 2],
        "head users": [1],
        "tail users": [2, 3, 4, 5],
    }


def test_strictly_cold_items_by_hand() -> None:
    """Users 4 and 5 have the positives 4 and 5, which have no training interaction."""
    scores = [ranking(2, 1), ranking(4, 5), ranking(4, 5)]
    result = evaluate(scores, [1, 4, 5], [(0, 2), (1, 4), (2, 5)], eval_groups=["new"])
    assert result["ndcg@2 (new items)"] == pytest.approx((1 + SECOND) / 2, abs=1e-6)
    assert result["ndcg@2 (seen items)"] == 1.0
    assert (result["users (new items)"], result["items (seen items)"]) == (2, 1)
    groups = make_groups(config(eval_groups=["new"]), train_data().dataset)
    assert [g.members.nonzero().view(-1).tolist() for g in groups] == [[4, 5], [1, 2, 3]]


def test_head_takes_the_share_and_breaks_ties_by_id() -> None:
    counts = np.array([9, 2, 5, 5, 1, 5])
    assert np.flatnonzero(choose_head(counts, 0.4)).tolist() == [2, 3]
    assert np.flatnonzero(choose_head(counts, 0.01)).tolist() == [2]
    assert np.flatnonzero(choose_head(counts, 0.35)).tolist() == [2, 3]  # 1.75 of five, rounded
    many = np.r_[0, np.tile([1, 2], 200)]
    assert np.flatnonzero(choose_head(many, 0.25)).tolist() == list(range(2, 201, 2))


def test_leave_one_out_by_hand() -> None:
    result = leave_one_out()
    expected = {
        "ndcg@2": (1 + SECOND + 0 + 1 + SECOND) / 5,
        "ndcg@2 (head items)": SECOND,
        "ndcg@2 (tail items)": (1 + 0 + 1 + SECOND) / 4,
        "ndcg@2 (cold items)": (0 + 1) / 2,
        "ndcg@2 (warm items)": (1 + SECOND + SECOND) / 3,
        "ndcg@2 (head users)": 1.0,
        "ndcg@2 (tail users)": (SECOND + 0 + 1 + SECOND) / 4,
        "hit@2 (cold items)": 0.5,
        "mrr@2 (head items)": 0.5,
    }
    assert {key: result[key] for key in expected} == pytest.approx(expected, abs=1e-6)


def test_numbers_of_users_and_items() -> None:
    result = leave_one_out()
    numbers = {k: v for k, v in result.items() if k.startswith(("users", "items"))}
    assert numbers == {
        "users (head items)": 1, "items (head items)": 1,
        "users (tail items)": 4, "items (tail items)": 3,
        "users (cold items)": 2, "items (cold items)": 2,
        "users (warm items)": 3, "items (warm items)": 2,
        "users (head users)": 1, "items (head users)": 1,
        "users (tail users)": 4, "items (tail users)": 4,
    }  # fmt: skip


def test_ungrouped_results_are_the_same() -> None:
    plain, grouped = leave_one_out(eval_groups=None), leave_one_out()
    assert plain == {key: grouped[key] for key in plain}
    assert not any("(" in key for key in plain)


def test_of_several_positives_only_the_groups_count() -> None:
    # User 1: the list is 1, 3; positives are 1 (head), 3 and 4 (tail).
    result = evaluate([ranking(1, 3)], [1], [(0, 1), (0, 3), (0, 4)], eval_groups=["items"])
    expected = {
        "recall@2": 2 / 3,
        "recall@2 (head items)": 1.0,
        "ndcg@2 (head items)": 1.0,
        "recall@2 (tail items)": 1 / 2,
        "ndcg@2 (tail items)": SECOND / (1 + SECOND),
        "mrr@2 (tail items)": 1 / 2,
    }
    assert {key: result[key] for key in expected} == pytest.approx(expected, abs=1e-6)
    assert (result["users (tail items)"], result["items (tail items)"]) == (1, 2)


def test_a_group_without_rows_has_numbers_only() -> None:
    result = evaluate([ranking(1)], [1], [(0, 1)], eval_groups=["items"])
    assert result["users (tail items)"] == result["items (tail items)"] == 0
    assert "ndcg@2 (tail items)" not in result


@settings(max_examples=30)
@given(st.data())
def test_groups_add_up_to_the_whole_even_with_ties(data: st.DataObject) -> None:
    n = data.draw(st.integers(2, 12))
    values = st.lists(st.integers(0, 2), min_size=5, max_size=5)
    scores = [[-math.inf, *data.draw(values)] for _ in range(n)]
    users = [data.draw(st.integers(1, 5)) for _ in range(n)]
    positives = [(row, data.draw(st.integers(1, 5))) for row in range(n)]
    result = evaluate(scores, users, positives)
    head_rows = {
        "items": sum(item == 1 for _, item in positives),
        "users": users.count(1),
    }
    for metric in ("ndcg@2", "recall@2", "hit@2", "mrr@2"):
        for kind, rows in head_rows.items():
            parts = rows * result.get(f"{metric} (head {kind})", 0.0)
            parts += (n - rows) * result.get(f"{metric} (tail {kind})", 0.0)
            assert parts / n == pytest.approx(result[metric], abs=2e-6)


def test_users_of_rows_with_sampled_candidates() -> None:
    # Row 0: one positive, row 1: two; two negatives each, so 3 and 6 candidates.
    users = torch.tensor([4] * 3 + [2] * 6)
    assert row_users(users, torch.tensor([0, 1, 1]), 2).tolist() == [4, 2]


def test_evaluations_do_not_mix() -> None:
    collector, evaluator = evaluation_parts(config(eval_groups=["items"]))
    collector.data_collect(train_data())
    results = []
    for _ in range(2):
        batch = Interaction({"user_id": torch.tensor([1])})
        scores = torch.tensor([ranking(1)])
        collector.eval_batch_collect(scores, batch, torch.tensor([0]), torch.tensor([1]))
        results.append(evaluator.evaluate(collector.get_data_struct()))
    assert results[0] == results[1]


def test_processes_share_their_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each of two processes sees about half the rows, and the groups reported are of all rows."""
    scores = [ranking(2, 1), ranking(2, 1), ranking(1, 2, 3), ranking(4, 5), ranking(1, 2)]
    positives = [(0, 2), (1, 1), (2, 3), (3, 4), (4, 2)]
    parts = []
    for rows in (range(2), range(2, 5)):
        collector, evaluator = evaluation_parts(config())
        collector.data_collect(train_data())
        batch = Interaction({"user_id": torch.tensor([row + 1 for row in rows])})
        collector.eval_batch_collect(
            torch.tensor([scores[row] for row in rows]),
            batch,
            torch.arange(len(rows)),
            torch.tensor([positives[row][1] for row in rows]),
        )
        parts.append(collector.get_data_struct())

    monkeypatch.setattr(
        distributed, "gather_to_main", lambda _: [row_columns(part) for part in parts]
    )
    grouped = {k: v for k, v in evaluator.evaluate(parts[0]).items() if "(" in k}
    monkeypatch.undo()
    assert grouped == {k: v for k, v in leave_one_out().items() if "(" in k}


def test_validation_goes_without_groups() -> None:
    collector, evaluator = evaluation_parts(config())
    with collector.without_groups():  # the groups are not known yet
        batch = Interaction({"user_id": torch.tensor([1])})
        scores = torch.tensor([ranking(1)])
        collector.eval_batch_collect(scores, batch, torch.tensor([0]), torch.tensor([1]))
        assert set(evaluator.evaluate(collector.get_data_struct())) == {
            "ndcg@2", "recall@2", "hit@2", "mrr@2",
        }  # fmt: skip


def test_the_table_aligns() -> None:
    text = format_table({"head items": {"users": 3, "ndcg@10": 0.5}, "cold items": {"users": 0}}, {
        "head items": 20, "cold items": 5,
    })  # fmt: skip
    assert text.splitlines() == [
        "group       size  users  ndcg@10",
        "head items    20      3   0.5000",
        "cold items     5      0        -",
    ]


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"eval_groups": ["item"]}, "eval_groups 'item' is unknown; did you mean 'items'"),
        ({"eval_groups": "all"}, "eval_groups 'all' is unknown; choose from items"),
        ({"eval_head_share": 0}, "eval_head_share: expected a number above 0 and below 1"),
        ({"metrics": ["GAUC", "ItemCoverage"]}, "groups need a metric of ranked lists"),
    ],
)
def test_settings_are_checked(values: dict[str, Any], message: str) -> None:
    keys = config(**values)
    with pytest.raises(ValueError, match=message):
        GroupSettings.of(keys).check(keys)


def test_groups_need_the_training_data() -> None:
    collector, _ = evaluation_parts(config())
    batch = Interaction({"user_id": torch.tensor([1])})
    with pytest.raises(ValueError, match="data_collect"):
        collector.eval_batch_collect(
            torch.tensor([ranking(1)]), batch, torch.tensor([0]), torch.tensor([1])
        )


@pytest.mark.parametrize("model", ["BPR", "SASRec"])
def test_runs_report_groups(model: str) -> None:
    """BPR is split at random, with several test items a user; SASRec leaves one out."""
    write_tiny_dataset("dataset")
    quiet = {
        "epochs": 1, "show_progress": False, "data_path": "dataset",
        "MAX_ITEM_LIST_LENGTH": 10,
    }  # fmt: skip
    plain = run_recbole_llm(model, "tiny", config_dict=quiet, saved=False)
    groups = {"eval_groups": ["items", "users", "cold"]}
    grouped = run_recbole_llm(model, "tiny", config_dict={**quiet, **groups}, saved=False)
    assert grouped["best_valid_result"] == plain["best_valid_result"]
    test = grouped["test_result"]
    assert plain["test_result"] == {k: v for k, v in test.items() if "(" not in k}
    assert test["users (head users)"] + test["users (tail users)"] == 40
    assert {"ndcg@10 (head items)", "ndcg@10 (tail items)"} <= set(test)
