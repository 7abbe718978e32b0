"""The campaign of bad configurations, as a test."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parent / "bad_configs.py"


@pytest.mark.slow
def test_bad_configurations_are_refused_in_one_line_before_anything_is_read() -> None:
    spec = importlib.util.spec_from_file_location("bad_configs", SCRIPT)
    assert spec is not None and spec.loader is not None
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    counts = script.campaign(seed=0, runs=60)
    assert set(counts["bad"]) == {"refused"}
    assert counts["bad"]["refused"] >= 700
    assert set(counts["edge"]) <= {"ok", "refused"}
