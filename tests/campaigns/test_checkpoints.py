"""The campaign of crafted checkpoints, as a test."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parent / "checkpoints.py"


@pytest.mark.slow
def test_crafted_checkpoints_run_no_code_and_end_in_one_line() -> None:
    spec = importlib.util.spec_from_file_location("checkpoints", SCRIPT)
    assert spec is not None and spec.loader is not None
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    counts, wrong = script.campaign()
    assert wrong == []
    assert counts["refused"] >= 50 and counts["ignored"] >= 15
