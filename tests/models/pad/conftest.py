"""A PAD that is built from random vectors, without a data set."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from recbole.data.interaction import Interaction

from recbole_llm.core.plugins.registry import PROPERTIES
from recbole_llm.models.pad.model import PAD

MakePAD = Callable[..., PAD]


class Settings(dict[str, Any]):
    """A configuration whose missing keys are None, as in RecBole's."""

    def __getitem__(self, key: str) -> Any:
        return self.get(key)


def pad_settings(**changes: Any) -> Settings:
    """Return PAD's defaults and RecBole's field names, updated with the changes."""
    defaults = yaml.safe_load((PROPERTIES / "model" / "PAD.yaml").read_text(encoding="utf-8"))
    names = {
        "USER_ID_FIELD": "user_id",
        "ITEM_ID_FIELD": "item_id",
        "LIST_SUFFIX": "_list",
        "ITEM_LIST_LENGTH_FIELD": "item_length",
        "NEG_PREFIX": "neg_",
        "device": torch.device("cpu"),
        "layer_norm_eps": 1e-12,
        "hidden_size": 8,
        "inner_size": 32,
    }
    return Settings({**defaults, **names, **changes})


def train_split(counts: np.ndarray) -> Any:
    """Return a training split with `counts` [n] interactions per item; row 0 is the padding."""
    items = torch.from_numpy(np.repeat(np.arange(len(counts)), counts))
    return SimpleNamespace(
        dataset_name="numbers",
        uid_field="user_id",
        iid_field="item_id",
        time_field=None,
        inter_feat=Interaction({"user_id": torch.ones_like(items), "item_id": items}),
        item_num=len(counts),
        num=lambda field: len(counts),
    )


@pytest.fixture
def make_pad() -> MakePAD:
    """Return ``make_pad(n_items=20, **config)``, which makes a PAD in eval mode."""

    def make(
        n_items: int = 20, matrix: np.ndarray | None = None, counts: Any = None, **changes: Any
    ) -> PAD:
        rng = np.random.default_rng(0)
        if matrix is None:
            matrix = rng.normal(size=(n_items + 1, 12)).astype(np.float32)
            matrix[0] = 0
        if counts is None:
            counts = np.r_[0, rng.integers(0, 9, len(matrix) - 1)]
        dataset = train_split(np.asarray(counts))
        dataset.features = {"item_text": SimpleNamespace(matrix=matrix, fingerprint="random")}
        torch.manual_seed(0)
        return PAD(pad_settings(**changes), dataset).eval()

    return make
