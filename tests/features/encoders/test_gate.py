"""Rate limits, at which all requests pause together."""

from __future__ import annotations

import pickle
import time
from collections.abc import Iterator
from email.utils import formatdate
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from made_chat import chat, chatter
from made_endpoint import FakeEndpoint, fake_endpoint
from made_texts import PlainConfig

pytest.importorskip("openai")

from recbole_llm.features.encoders import gate, openai_api
from recbole_llm.features.encoders.base import EncoderError
from recbole_llm.features.encoders.gate import Gate, retry_after_seconds

PROMPTS = [f"prompt {i}" for i in range(8)]


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeEndpoint]:
    """An endpoint that asks for no pause; the pauses that the gate chooses itself are short."""
    monkeypatch.setattr(gate, "_FIRST", 0.01)
    monkeypatch.setattr(gate, "_LONGEST", 0.1)
    with fake_endpoint(chatter, monkeypatch) as own:
        own.pause = None
        yield own


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    own = SimpleNamespace(now=100.0, time=time.time)
    own.monotonic = lambda: own.now
    monkeypatch.setattr(gate, "time", own)
    return own


def refused(own: Gate, clock: SimpleNamespace, asked: float | None = None) -> float:
    """Return the pause after the refusal of a request that begins now; the clock passes it."""
    assert own.close(clock.now, asked, 100.0, 600.0)
    pause, clock.now = own.until - clock.now, own.until
    return pause


def test_pauses_double_until_an_answer(clock: SimpleNamespace) -> None:
    own = Gate()
    assert [refused(own, clock) for _ in range(8)] == [1, 2, 4, 8, 16, 32, 60, 60]
    own.open(clock.now - 1)  # a request that began before the last pause
    assert refused(own, clock) == 60
    own.open(clock.now)
    assert refused(own, clock) == 1
    assert refused(own, clock, asked=90.0) == 90


def test_requests_that_were_under_way_make_no_pause_longer(clock: SimpleNamespace) -> None:
    own, began = Gate(), clock.now
    for _ in range(8):
        assert own.close(began, None, began, 600.0)
    assert (own.pause, own.until) == (1, 101)


def test_patience_ends_after_the_last_answer(clock: SimpleNamespace) -> None:
    own = Gate()
    assert not own.close(100.0, 601.0, 100.0, 600.0)
    assert own.until == 0  # no other request waits
    clock.now = 650.0
    own.open(650.0)
    assert own.close(650.0, 600.0, 100.0, 600.0)


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, None), ({"retry-after": "7"}, 7), ({"retry-after-ms": "250"}, 0.25),
        ({"retry-after": "soon"}, None), ({"retry-after": "-1"}, None),
        ({"retry-after": formatdate(1030, usegmt=True)}, 30), ({"retry-after": "x GMT"}, None),
    ],
)  # fmt: skip
def test_the_pause_is_read_from_the_headers(
    clock: SimpleNamespace, headers: dict[str, str], seconds: float | None
) -> None:
    clock.time = lambda: 1000.0
    error: Any = SimpleNamespace(response=SimpleNamespace(headers=headers))
    assert retry_after_seconds(error) == seconds
    assert retry_after_seconds(ValueError("broke off")) is None


def test_workers_wait_together_for_as_long_as_it_takes(
    server: FakeEndpoint, caplog: pytest.LogCaptureFixture
) -> None:
    """Waits are not retries: there are more waits than ``max_retries`` allows retries."""
    server.reply = lambda body: chatter(body) if len(server.requests) > 24 else 429
    with caplog.at_level("INFO", "recbole_llm"):
        texts = chat(server, concurrency=4, max_retries=1, timeout=60)[0].generate(PROMPTS)
    assert texts == [f"about {p}" for p in PROMPTS]
    assert len(server.requests) == 24 + len(PROMPTS)
    (record,) = caplog.records
    assert "accepts no requests for now (HTTP 429)" in record.getMessage()


def test_the_error_after_the_longest_wait_names_the_keys(server: FakeEndpoint) -> None:
    server.reply = lambda body: 429
    with pytest.raises(
        EncoderError, match="than generator_max_retries x generator_timeout, 0.2 s; texts that"
    ):
        chat(server, concurrency=2, max_retries=1, timeout=0.2)[0].generate(PROMPTS)
    assert len(server.requests) < 16


def test_an_account_that_is_used_up_is_not_waited_for(server: FakeEndpoint) -> None:
    server.reply, server.code = lambda body: 429, "insufficient_quota"
    with pytest.raises(EncoderError, match="RateLimitError"):
        chat(server)[0].generate(PROMPTS)
    assert len(server.requests) == 8


def test_an_encoder_waits_too(server: FakeEndpoint) -> None:
    vectors = {"data": [{"index": 0, "embedding": [1.0, 2.0]}]}
    server.reply = lambda body: vectors if len(server.requests) > 4 else 429
    config = PlainConfig(encoder_model="m", encoder_base_url=server.url, encoder_max_retries=1)
    np.testing.assert_array_equal(openai_api.create(config).encode(["a"]), [[1, 2]])
    assert len(server.requests) == 5


def test_another_process_has_pauses_of_its_own() -> None:
    """An encoder may be pickled for another process, such as an actor of Ray."""
    gate = Gate()
    gate.close(gate.wait(), 30.0, since=0.0, patience=1e9)
    copied = pickle.loads(pickle.dumps(gate))
    assert gate.until > 0 and copied.until == 0 and not copied.stopped.is_set()
