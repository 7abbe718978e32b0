"""The campaigns of this folder as tests; each is also a script of its own."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import bad_configs
import endpoints
import pytest
import stores
from outcomes import report


@pytest.mark.slow
def test_misbehaving_endpoints() -> None:
    pytest.importorskip("openai")
    outcomes = endpoints.run()
    print(report(outcomes, "endpoints"))
    assert len(outcomes) >= 45
    assert [o for o in outcomes if o.faults] == []


def test_crafted_files_and_stores() -> None:
    outcomes = stores.run()
    print(report(outcomes, "files"))
    assert len(outcomes) >= 25
    assert [o for o in outcomes if o.faults] == []


@pytest.mark.slow
def test_bad_configurations() -> None:
    counts = bad_configs.campaign(seed=0, runs=60)
    assert set(counts["bad"]) == {"refused"}
    assert counts["bad"]["refused"] >= 700
    assert set(counts["edge"]) <= {"ok", "refused"}


@pytest.mark.slow
def test_kills() -> None:
    script = Path(__file__).with_name("kills.py")
    # In a process of its own, since it forks, which is unsafe in a process with threads.
    environment = {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(script.parents[2])}
    command = [sys.executable, str(script), "--kills=20"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=900)
    print(done.stdout)
    assert done.returncode == 0, done.stdout + done.stderr[-2000:]
    assert done.stdout.count(" 0 finished units lost, 0 faults") == 5
