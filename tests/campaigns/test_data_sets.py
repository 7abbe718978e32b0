"""The campaign of malformed data sets."""

from __future__ import annotations

import data_sets
import pytest


@pytest.mark.slow
def test_no_malformed_data_set_is_read_wrongly() -> None:
    found = data_sets.campaign(seed=1)
    assert found["wrong"] == {}
    assert found["mutations"] >= 120
    assert min(found["runs"].values()) > 100
