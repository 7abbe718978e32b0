"""Splits of general models against RecBole's own, bit for bit."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from made_data import HAS_TS, MakeConfig, RecBoleGeneral, assert_same_rows, leave_one_out
from recbole.data import dataset as stock
from recbole.utils import ModelType, init_seed

from recbole_llm.data import create
from recbole_llm.data.datasets.dataset import Dataset

SPLITS = [
    *({"split": {"LS": mode}} for mode in ("valid_and_test", "valid_only", "test_only")),
    *({"split": {"RS": [6, 2, 1]}, "group_by": by} for by in ("user", "none")),
    {"split": {"TS": [0.8, 0.1, 0.1]}},
]


@pytest.mark.parametrize("order", ["RO", "TO"])
@pytest.mark.parametrize("split", SPLITS, ids=str)
def test_splits_are_recboles(made: MakeConfig, split: dict[str, Any], order: str) -> None:
    if "TS" in split["split"] and not HAS_TS:
        pytest.skip("RecBole 1.2.0 has no time-based split")
    config = made(eval_args=leave_one_out(**split, order=order))
    parts = []
    for cls in (RecBoleGeneral, Dataset):
        init_seed(3, True)
        parts.append(cls(config).build())
    assert len(parts[0]) == len(parts[1]) == 3
    for want, have in zip(*parts, strict=True):
        assert_same_rows(want[:], have[:])


@pytest.mark.skipif(not HAS_TS, reason="RecBole 1.2.0 has no time-based split")
def test_a_split_in_time_without_validation_leaves_it_empty(made: MakeConfig) -> None:
    """2 / 3 / (1 - 1 / 3) is below 1 after rounding."""
    split = {"split": {"TS": [2, 0, 1]}, "group_by": "user"}
    _, valid, test = Dataset(made(eval_args=leave_one_out(**split, order="TO"))).build()
    assert len(valid) == 0 and len(test) > 0


@pytest.mark.parametrize("split", [{"LS": "valid_and_test"}, {"RS": [6, 2, 1]}], ids=str)
def test_runs_with_one_split_seed_share_a_split(made: MakeConfig, split: dict[str, Any]) -> None:
    args = leave_one_out(split=split, order="RO")

    def drawn(seed: int, split_seed: int | None) -> list[Any]:
        config = made(eval_args=args, seed=seed, split_seed=split_seed)
        init_seed(seed, True)
        return [part.inter_feat for part in Dataset(config).build()]

    first, again, other = drawn(1, 7), drawn(2, 7), drawn(1, 8)
    for want, have in zip(first, again, strict=True):
        assert_same_rows(want, have)
    for want, have in zip(drawn(7, None), first, strict=True):  # what the seed 7 itself draws
        assert_same_rows(want, have)
    held_out = [sorted(zip(*(r[f].tolist() for f in r.columns))) for r in (first[2], other[2])]
    assert held_out[0] != held_out[1]


def test_a_split_seed_leaves_the_run_its_own_random_numbers(made: MakeConfig) -> None:
    config = made(eval_args=leave_one_out(order="RO"), split_seed=7)
    dataset = Dataset(config)
    init_seed(1, True)
    before = torch.rand(3)
    init_seed(1, True)
    dataset.build()
    assert torch.equal(torch.rand(3), before)


def test_a_split_seed_of_a_split_in_time_is_refused(made: MakeConfig) -> None:
    with pytest.raises(ValueError, match="split_seed: this split is not drawn at random"):
        made(eval_args=leave_one_out(order="TO"), split_seed=7)


def test_a_split_seed_of_a_data_set_that_draws_its_own_is_refused(
    made: MakeConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = made(eval_args=leave_one_out(order="RO"), split_seed=7)
    config["MODEL_TYPE"] = ModelType.GENERAL
    monkeypatch.setattr(create, "dataset_class", lambda model, kind: stock.Dataset)
    with pytest.raises(ValueError, match="split_seed: .* has its own data set class, Dataset, "):
        create.create_dataset(config)
