"""Training interactions, counted by hand and against RecBole's matrices."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from made_data import MakeConfig, RecBoleDataset, leave_one_out
from recbole.data.dataset import Dataset
from recbole.data.interaction import Interaction

from recbole_llm.core.config import Config
from recbole_llm.data.datasets.sequence import SequentialDataset
from recbole_llm.data.rows.training import (
    item_counts,
    training_digest,
    training_interactions,
    user_counts,
)

CLASSES = [SequentialDataset, RecBoleDataset]


@pytest.fixture
def hand(tmp_path: Path) -> MakeConfig:
    # u1 reads a b c d e (out of order in the file), u2 reads c a, u3 reads b only.
    rows = ["u1\tb\t2", "u1\ta\t1", "u2\tc\t1", "u1\td\t4", "u1\tc\t3", "u2\ta\t2", "u1\te\t5",
            "u3\tb\t1"]  # fmt: skip
    (tmp_path / "hand").mkdir()
    header = "user_id:token\titem_id:token\ttimestamp:float"
    (tmp_path / "hand" / "hand.inter").write_text("\n".join([header, *rows]) + "\n")

    def config(model: str = "SASRec", **changes: Any) -> Config:
        settings = {
            "data_path": str(tmp_path), "eval_args": leave_one_out(), "train_level": "prefix",
            "load_col": {"inter": ["user_id", "item_id", "timestamp"]},
        }  # fmt: skip
        return Config(model, "hand", config_dict={**settings, **changes})

    return config


def tokens(dataset: Any) -> list[tuple[str, str]]:
    users, items = training_interactions(dataset)
    assert users.dtype == items.dtype == np.int64
    names = dataset.id2token("user_id", users), dataset.id2token("item_id", items)
    return [(str(u), str(i)) for u, i in zip(*names, strict=True)]


@pytest.mark.parametrize("cls", CLASSES)
@pytest.mark.parametrize("length", [1, 2, 50])
def test_first_interactions_are_there_once(hand: MakeConfig, cls: type, length: int) -> None:
    train = cls(hand(MAX_ITEM_LIST_LENGTH=length)).build()[0]
    # u1's d and e are held out; u2 has one row, which stays; u3 has none.
    assert tokens(train) == [("u1", "a"), ("u1", "b"), ("u1", "c"), ("u2", "c"), ("u2", "a")]
    named = dict(
        zip(train.id2token("item_id", range(train.item_num)), item_counts(train), strict=True)
    )
    assert named == {"[PAD]": 0, "a": 2, "b": 1, "c": 2, "d": 0, "e": 0}
    assert user_counts(train).tolist() == [0, 3, 2, 0]


def test_general_data_set(hand: MakeConfig) -> None:
    train = Dataset(hand("BPR", eval_args=leave_one_out(split={"LS": "test_only"}))).build()[0]
    by_user = [("u1", i) for i in "abcd"] + [("u2", "c"), ("u3", "b")]
    assert tokens(train) == by_user


def test_order_without_time_is_the_files(hand: MakeConfig) -> None:
    config = hand("BPR", load_col={"inter": ["user_id", "item_id"]},
                  eval_args=leave_one_out(split={"RS": [1, 0, 0]}, order="RO"))  # fmt: skip
    assert sorted(tokens(Dataset(config).build()[0])) == sorted(
        [("u1", i) for i in "abcde"] + [("u2", "c"), ("u2", "a"), ("u3", "b")]
    )


@pytest.mark.parametrize("split", [{"LS": "valid_and_test"}, {"RS": [0.6, 0.2, 0.2]}], ids=str)
@pytest.mark.parametrize("group_by", ["user", "none"])
def test_recboles_matrix_has_the_same(made: MakeConfig, split: Any, group_by: str) -> None:
    config = made(eval_args=leave_one_out(split=split, group_by=group_by))
    stock, ours = (cls(config).build()[0] for cls in (RecBoleDataset, SequentialDataset))
    for a, b in zip(training_interactions(stock), training_interactions(ours), strict=True):
        assert np.array_equal(a, b)
    matrix = stock.inter_matrix("csr")
    assert np.array_equal(np.asarray(matrix.sum(0)).ravel(), item_counts(ours))
    assert np.array_equal(np.asarray(matrix.sum(1)).ravel(), user_counts(ours))


def test_the_digest_is_of_pairs_in_any_order() -> None:
    def digest(*pairs: tuple[int, int]) -> str:
        users, items = torch.tensor(pairs).T
        inter = Interaction({"user_id": users, "item_id": items})
        dataset: Any = SimpleNamespace(
            uid_field="user_id", iid_field="item_id", item_num=9, inter_feat=inter
        )
        return training_digest(dataset)

    assert digest((1, 2), (3, 4)) == digest((3, 4), (1, 2))
    assert len({digest((1, 2), (3, 4)), digest((2, 1), (3, 4)), digest((1, 4), (3, 2))}) == 3


def test_unsplit_data_set_is_refused(hand: MakeConfig) -> None:
    with pytest.raises(ValueError, match=r"'hand' is not split yet.*train_data\.dataset"):
        training_interactions(SequentialDataset(hand()))
