"""Splits of general models against RecBole's own, bit for bit."""

from __future__ import annotations

from typing import Any

import pytest
from made_data import HAS_TS, MakeConfig, RecBoleGeneral, assert_same_rows, leave_one_out
from recbole.utils import init_seed

from recbole_llm.data.dataset import Dataset

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
