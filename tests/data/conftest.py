"""Fixtures of the data tests."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from made_data import MakeConfig, made_config, write_interactions


@pytest.fixture
def made(tmp_path: Path) -> MakeConfig:
    """Configurations over a generated data set with all field types, ties in time, short users."""
    rng = np.random.default_rng(7)
    users = rng.integers(0, 25, 220) ** 2 % 23
    write_interactions(tmp_path, users, rng.integers(0, 60, 220), 40)
    return lambda **changes: made_config(tmp_path, **changes)
