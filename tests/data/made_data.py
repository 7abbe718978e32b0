"""Small data sets with every kind of field, and comparison with RecBole's own engine."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from recbole.data import dataset as stock
from recbole.data.interaction import Interaction

from recbole_llm.core.config import Config
from recbole_llm.data.datasets.dataset import Dataset, FileDataset

HAS_TS = hasattr(stock.Dataset, "time_based_split")  # RecBole 1.2.0 has none


class StockSplits:
    """RecBole's split methods, which replace those of the classes listed after this one."""

    split_by_ratio = stock.Dataset.split_by_ratio
    if HAS_TS:
        time_based_split = stock.Dataset.time_based_split
    _grouped_index = stock.Dataset._grouped_index
    _split_index_by_leave_one_out = stock.Dataset._split_index_by_leave_one_out


class SequentialFileDataset(StockSplits, FileDataset, stock.SequentialDataset):  # type: ignore[misc]
    """RecBole's sequential engine on files that we read."""


class GeneralFileDataset(StockSplits, Dataset):
    """RecBole's general engine on files that we read."""


# The classes to compare with. Under pandas 3, RecBole cannot read sequences itself.
OLD_PANDAS = int(pd.__version__.split(".")[0]) < 3
RecBoleGeneral = stock.Dataset if OLD_PANDAS else GeneralFileDataset
RecBoleDataset = stock.SequentialDataset if OLD_PANDAS else SequentialFileDataset
MakeConfig = Callable[..., Config]
FIELDS = "user_id:token item_id:token rating:float timestamp:float tags:token_seq weights:float_seq"


def leave_one_out(**changes: Any) -> dict[str, Any]:
    args = {"split": {"LS": "valid_and_test"}, "order": "TO", "group_by": "user", "mode": "full"}
    return {**args, **changes}


def write_interactions(folder: Path, users: Any, times: Any, n_items: int, seed: int = 0) -> None:
    """Write ``made/made.inter`` with all field types, one row for each given user and time."""
    rng = np.random.default_rng(seed)
    lines = [FIELDS.replace(" ", "\t")]
    for user, time in zip(users, times, strict=True):
        tags = " ".join(f"t{t}" for t in rng.integers(0, 9, rng.integers(1, 4)))
        weights = " ".join(f"{w:.3f}" for w in rng.random(rng.integers(1, 3)))
        item = rng.integers(n_items)
        lines.append(f"u{user}\ti{item}\t{rng.integers(1, 6)}\t{time}\t{tags}\t{weights}")
    # Every kind of list at its full width, whatever was drawn.
    lines.append("uwide\ti0\t3\t1\tt0 t1 t2 t3\t0.1 0.2 0.3")
    lines.append("uwide\ti1\t4\t2\tt4\t0.4")
    target = folder / "made"
    target.mkdir(parents=True, exist_ok=True)
    (target / "made.inter").write_text("\n".join(lines) + "\n", encoding="utf-8")


def made_config(folder: Path, **changes: Any) -> Config:
    settings: dict[str, Any] = {
        "data_path": str(folder),
        "load_col": {"inter": [field.split(":")[0] for field in FIELDS.split()]},
        "numerical_features": ["rating", "weights"],
        "MAX_ITEM_LIST_LENGTH": 4,
        "eval_args": leave_one_out(),
        "train_level": "prefix",
        "train_neg_sample_args": None,
        "eval_memory_mib": 0,
        "rm_dup_inter": None,
        "exact_times": False,
    }
    return Config("SASRec", "made", config_dict={**settings, **changes})


def assert_same_rows(expected: Interaction, actual: Interaction) -> None:
    """Assert the same columns in the same order, equal bit for bit."""
    assert list(expected.columns) == list(actual.columns)
    assert len(expected) == len(actual)
    for name in expected.columns:
        want, have = expected[name], actual[name]
        assert (want.dtype, want.shape) == (have.dtype, have.shape), name
        assert torch.equal(want, have), name


def assert_same_batches(expected: Any, actual: Any) -> None:
    """Assert the same batches; a user's positives and history may be in any order."""
    missing = object()
    for want, have in itertools.zip_longest(expected, actual, fillvalue=missing):
        for x, y in zip(_parts(want), _parts(have), strict=True):
            if isinstance(x, Interaction):
                # RecBole concatenates sampled evaluation rows in the order of a set of names.
                names = sorted(x.columns)
                assert names == sorted(y.columns)
                pick = {name: x[name] for name in names}, {name: y[name] for name in names}
                assert_same_rows(Interaction(pick[0]), Interaction(pick[1]))
            else:
                assert type(x) is type(y)
                assert x is None or torch.equal(x, y)


def _parts(batch: Any) -> Iterator[Any]:
    if not isinstance(batch, tuple):
        yield batch
    elif len(batch) == 4 and isinstance(batch[1], tuple):  # full sort of a general model
        yield batch[0]
        yield _sorted_pairs(*batch[1])
        yield _sorted_pairs(*batch[2:])
    else:
        for part in batch:
            yield from _parts(part)


def _sorted_pairs(rows: torch.Tensor, items: torch.Tensor) -> torch.Tensor:
    return torch.tensor(sorted(zip(rows.tolist(), items.tolist(), strict=True)))
