"""Vectorised samplers: RecBole's draws from RecBole's random stream."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from recbole.data.interaction import Interaction
from recbole.sampler import RepeatableSampler as RecBoleRepeatableSampler
from recbole.sampler import Sampler as RecBoleSampler

from recbole_llm.data.samplers import RepeatableSampler, Sampler, UsedItems

PHASES = ["train", "valid", "test"]


def dataset(users: list[int], items: list[int], n_users: int = 6, n_items: int = 9) -> Any:
    inter = Interaction({"u": torch.tensor(users), "i": torch.tensor(items)})
    return SimpleNamespace(
        inter_feat=inter, uid_field="u", iid_field="i", user_num=n_users, item_num=n_items
    )


@pytest.fixture
def splits() -> list[Any]:
    return [
        dataset([1, 1, 2, 3, 3, 3, 1], [1, 2, 3, 4, 5, 6, 2]),
        dataset([1, 2], [3, 7]),
        dataset([1, 3, 5], [4, 8, 8]),
    ]


def drawn(sampler: Any, users: list[int], items: list[int], num: int) -> list[int]:
    np.random.seed(5)
    result: list[int] = []
    for _ in range(4):
        batch = sampler.sample_by_user_ids(np.array(users), np.array(items), num)
        assert batch.dtype == torch.int64
        result += batch.tolist()
    return [*result, int(np.random.randint(1000))]  # the stream stands at the same place


@pytest.mark.parametrize("distribution", ["uniform", "popularity"])
@pytest.mark.parametrize("num", [1, 3])
@pytest.mark.parametrize("users", [[1, 2, 3, 3, 5, 1], [3, 3, 3], [2]])
@pytest.mark.parametrize(
    ("stock", "ours"), [(RecBoleSampler, Sampler), (RecBoleRepeatableSampler, RepeatableSampler)]
)
def test_same_draws(
    splits: list[Any], distribution: str, num: int, users: list[int], stock: type, ours: type
) -> None:
    source = splits if stock is RecBoleSampler else splits[0]
    items = [2, 3, 4, 5, 6, 1][: len(users)]
    results = []
    for cls in (stock, ours):
        sampler = cls(PHASES, source, distribution, 0.5)
        results.append([drawn(sampler.set_phase(p), users, items, num) for p in PHASES])
    assert results[0] == results[1]


def test_used_items_read_like_recboles_sets(splits: list[Any]) -> None:
    stock, ours = RecBoleSampler(PHASES, splits), Sampler(PHASES, splits)
    for phase in PHASES:
        expected, used = stock.set_phase(phase).used_ids, ours.set_phase(phase).used_ids
        assert list(used) == list(expected)
        assert used[3] == expected[3] == used[-3]
        assert list(used[np.array([1, 5])]) == list(expected[[1, 5]])
        again = UsedItems.of(expected, 6, 9)
        assert np.array_equal(again.keys, used.keys)
        assert used.counts().tolist() == [len(s) for s in expected]
    with pytest.raises(IndexError):
        _ = ours.set_phase("test").used_ids[6]


def test_user_of_every_item_is_refused() -> None:
    with pytest.raises(ValueError, match="user_inter_num_interval"):
        Sampler("train", dataset([1] * 8, list(range(1, 9))))


def test_unknown_user_is_refused(splits: list[Any]) -> None:
    sampler = Sampler(PHASES, splits).set_phase("train")
    with pytest.raises(ValueError, match="user_id .6. not exist"):
        sampler.sample_by_user_ids(np.array([6]), np.array([1]), 1)
