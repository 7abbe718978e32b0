"""A Molar that is built from random vectors, without a data set."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from recbole_llm.core.settings import defaults
from recbole_llm.models.molar.model import Molar
from recbole_llm.models.molar.settings import MolarSettings

MakeMolar = Callable[..., Molar]


class Settings(dict[str, Any]):
    """A configuration whose missing keys are None, as in RecBole's."""

    def __getitem__(self, key: str) -> Any:
        return self.get(key)


@pytest.fixture
def make_molar() -> MakeMolar:
    """Return ``make_molar(**config)``, which makes a small Molar of 20 items."""

    def make(**changes: Any) -> Molar:
        names = {
            "USER_ID_FIELD": "user_id", "ITEM_ID_FIELD": "item_id", "LIST_SUFFIX": "_list",
            "ITEM_LIST_LENGTH_FIELD": "item_length", "NEG_PREFIX": "neg_",
            "device": torch.device("cpu"), "hidden_size": 8, "decoder_size": 12,
            "decoder_inner": 16, "train_neg_sample_args": None,
        }  # fmt: skip
        matrix = np.random.default_rng(0).normal(size=(21, 16)).astype(np.float32)
        matrix[0] = 0
        table = SimpleNamespace(matrix=matrix, fingerprint="random")
        dataset: Any = SimpleNamespace(
            dataset_name="numbers", num=lambda field: 21, features={"item_text": table}
        )
        torch.manual_seed(0)
        return Molar(Settings({**defaults(MolarSettings), **names, **changes}), dataset)

    return make
