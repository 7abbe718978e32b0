"""The campaigns of this folder, each a script of its own, too."""

from __future__ import annotations

import bad_configs
import endpoints
import pytest
import stores


@pytest.mark.slow
def test_misbehaving_endpoints() -> None:
    pytest.importorskip("openai")
    outcomes = endpoints.run()
    print(endpoints.report(outcomes))
    assert len(outcomes) >= 45
    assert [o for o in outcomes if o.faults] == []


def test_crafted_files_and_stores() -> None:
    outcomes = stores.run()
    print(stores.report(outcomes))
    assert len(outcomes) >= 25
    assert [o for o in outcomes if o.faults] == []


@pytest.mark.slow
def test_bad_configurations() -> None:
    counts = bad_configs.campaign(seed=0, runs=60)
    assert set(counts["bad"]) == {"refused"}
    assert counts["bad"]["refused"] >= 700
    assert set(counts["edge"]) <= {"ok", "refused"}
