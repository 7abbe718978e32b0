"""The batches of several processes together are the batches of a single process."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from recbole_llm.core.config import Config
from recbole_llm.core.processes import distributed
from recbole_llm.data.create import create_dataset
from recbole_llm.data.prepare import data_preparation
from recbole_llm.testing import write_tiny_dataset

PROCESSES = 3
QUIET = {"data_path": "dataset", "show_progress": False, "train_batch_size": 50}
LEAVE_OUT = {"split": {"LS": "valid_and_test"}, "order": "TO", "group_by": "user"}


def of_each(
    monkeypatch: pytest.MonkeyPatch, model: str, which: int, **changes: Any
) -> tuple[list[Any], list[list[Any]], list[int]]:
    """A single process's batches, those of each of three processes, and the three's first rows."""
    write_tiny_dataset("dataset")
    drawn, begins = [], []
    places = [(0, 1), *((rank, PROCESSES) for rank in range(PROCESSES))]
    for rank, size in places:
        monkeypatch.setattr(distributed, "_here", distributed.ProcessRank(rank, rank, size))
        config = Config(model, "tiny", config_dict={**QUIET, **changes})
        torch.manual_seed(0)  # as a run does: the split may be random
        loader = data_preparation(config, create_dataset(config))[which]
        np.random.seed(0)
        drawn.append(list(loader))
        begins.append(getattr(loader, "first_row", 0))
        assert len(loader) == len(drawn[-1]) or which
    return drawn[0], drawn[1:], begins[1:]


def rows(batches: list[Any], *fields: str) -> list[tuple[int, ...]]:
    return [row for b in batches for row in zip(*(b[f].tolist() for f in fields), strict=True)]


@pytest.mark.parametrize(("model", "fields"), [
    ("BPR", ("user_id", "item_id")), ("MultiVAE", ("user_id",)), ("GRU4Rec", ("user_id",)),
])  # fmt: skip
def test_a_training_batch_is_shared(
    monkeypatch: pytest.MonkeyPatch, model: str, fields: tuple[str, ...]
) -> None:
    whole, parts, _ = of_each(monkeypatch, model, 0)
    assert len(whole) > (model == "BPR")
    for batch, *own in zip(whole, *parts, strict=True):
        assert sorted(rows(own, *fields)) == sorted(rows([batch], *fields))
        assert all(len(part) for part in own)


def test_models_that_count_see_all_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    whole, parts, _ = of_each(monkeypatch, "Pop", 0)
    assert all(rows(part, "item_id") == rows(whole, "item_id") for part in parts)


def test_triplets_are_shared(monkeypatch: pytest.MonkeyPatch) -> None:
    from recbole.utils import KGDataLoaderState

    write_tiny_dataset("dataset")
    found = []
    for rank, size in ((0, 1), (0, 2), (1, 2)):
        monkeypatch.setattr(distributed, "_here", distributed.ProcessRank(rank, rank, size))
        config = Config("CKE", "tiny", config_dict=QUIET)
        torch.manual_seed(0)
        loader = data_preparation(config, create_dataset(config))[0]
        loader.set_mode(KGDataLoaderState.KG)
        found.append(rows(list(loader), "head_id", "tail_id"))
    assert sorted(found[0]) == sorted(found[1] + found[2]) and len(found[1]) > len(found[0]) // 3


@pytest.mark.parametrize("mode", ["full", "uni5"])
@pytest.mark.parametrize("model", ["BPR", "SASRec"])
def test_users_are_ranked_once_each(monkeypatch: pytest.MonkeyPatch, model: str, mode: str) -> None:
    """Users have the negatives, and the place in all rows, that a single process gives them."""
    args = {**LEAVE_OUT, "mode": mode}
    whole, parts, begins = of_each(monkeypatch, model, 1, eval_args=args, eval_batch_size=60)
    fields = ("user_id", "item_id") if mode == "uni5" else ("user_id",)
    one = rows([batch[0] for batch in whole], *fields)
    assert rows([batch[0] for part in parts for batch in part], *fields) == one
    each = 6 if mode == "uni5" else 1  # a positive and its negatives
    sizes = [len(rows([batch[0] for batch in part], *fields)) // each for part in parts]
    assert begins == [sum(sizes[:rank]) for rank in range(PROCESSES)]
