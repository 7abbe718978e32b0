"""An endpoint that writes."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from made_chat import chatter
from made_endpoint import FakeEndpoint, fake_endpoint


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeEndpoint]:
    pytest.importorskip("openai")
    with fake_endpoint(chatter, monkeypatch) as own:
        yield own
