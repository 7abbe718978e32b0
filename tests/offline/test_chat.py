"""Generators that use endpoints with OpenAI's chat API."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from threading import Event, current_thread
from types import SimpleNamespace
from typing import Any

import pytest
from made_chat import asked, chat, chatter
from made_endpoint import FakeEndpoint
from made_texts import PlainConfig

from recbole_llm.features.encoders.base import EncoderError
from recbole_llm.features.stored.generated_texts import TextStore
from recbole_llm.offline.generators import create_generators, endpoint_workers
from recbole_llm.offline.generators.chat import read_chat
from recbole_llm.offline.generators.endpoint_workers import WorkerRun
from recbole_llm.offline.write_texts import write_texts

PROMPTS = [f"prompt {i}" for i in range(4)]


def test_a_missing_openai_package_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "openai", None)
    nowhere: Any = SimpleNamespace(url="http://127.0.0.1:9/v1")
    with pytest.raises(EncoderError, match=r"package 'openai': pip install '.*\[openai\]'"):
        chat(nowhere)[0].generate(PROMPTS)


def test_failed_requests_are_retried_and_each_draw_has_its_seed(server: FakeEndpoint) -> None:
    first, second = chat(server, seed=4, max_new_tokens=9)
    server.failures[:] = [429, 500]
    assert first.generate(PROMPTS) == [f"about {p}" for p in PROMPTS]
    assert len(server.requests) == 6 and first.tokens == 20
    assert {(body["seed"], body["max_tokens"]) for *_, body in server.requests} == {(4, 9)}
    second.generate(PROMPTS[:1])
    assert server.requests[-1][2]["seed"] == 5
    assert first.fingerprint != second.fingerprint


def test_answers_are_stored_though_one_prompt_fails(server: FakeEndpoint, tmp_path: Path) -> None:
    first, _ = chat(server, max_retries=0, concurrency=1)
    server.failures[:] = [500]
    with closing(TextStore(tmp_path)) as store:
        with pytest.raises(EncoderError, match="failed"):
            write_texts(first, store, PROMPTS, progress=False)
        texts, made = write_texts(first, store, PROMPTS, progress=False)
    assert made == 1 and texts == [f"about {p}" for p in PROMPTS]
    assert len(server.requests) == 6  # including a probe


@pytest.fixture
def interrupt(caplog: pytest.LogCaptureFixture) -> Iterator[Callable[[], None]]:
    """Return a function that interrupts this process and waits until that is logged."""

    def send() -> None:
        os.kill(os.getpid(), signal.SIGINT)
        deadline = time.monotonic() + 60
        while "interrupted" not in caplog.text and time.monotonic() < deadline:
            time.sleep(0.01)

    caplog.set_level("INFO", "recbole_llm")
    # Workers of pytest-xdist and background processes ignore SIGINT.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield send
    signal.signal(signal.SIGINT, before)


@pytest.mark.parametrize("concurrency", [1, 2])
def test_an_interrupt_keeps_running_requests_and_starts_no_other(
    server: FakeEndpoint, tmp_path: Path, interrupt: Callable[[], None], concurrency: int
) -> None:
    def interrupting(body: dict[str, Any]) -> dict[str, Any]:
        if len(server.requests) == 3:
            interrupt()
        return chatter(body)

    first, _ = chat(server, concurrency=concurrency)
    prompts = [f"p{i}" for i in range(16)]
    server.reply = interrupting
    with closing(TextStore(tmp_path)) as store:
        with pytest.raises(KeyboardInterrupt):
            write_texts(first, store, prompts, progress=False)
        asked = len(server.requests)
        assert len(store) == asked < 16
        texts, made = write_texts(first, store, prompts, progress=False)
    assert made == 16 - asked and len(server.requests) == 16
    assert texts == [f"about {p}" for p in prompts]


@pytest.mark.parametrize(("again", "grace"), [(False, 2), (True, 60)])
def test_an_interrupt_does_not_wait_for_slow_answers(
    interrupt: Callable[[], None], monkeypatch: pytest.MonkeyPatch, again: bool, grace: float
) -> None:
    """A second interrupt ends the run at once; earlier answers are kept."""
    interrupted, held, daemons = Event(), Event(), []

    def answer(prompt: str) -> tuple[str, int]:
        daemons.append(current_thread().daemon)
        if prompt == "quick":
            interrupted.wait(60)
            return "about quick", 1
        while len(daemons) < 2:
            time.sleep(0.01)
        interrupt()
        interrupted.set()
        while not any(future.done() for future in run.running):
            time.sleep(0.01)
        if again:
            os.kill(os.getpid(), signal.SIGINT)
        held.wait(30)
        return "about slow", 1

    monkeypatch.setattr(endpoint_workers, "_GRACE", grace)
    run = WorkerRun(answer, lambda error: 0, workers=2)
    kept: dict[str, tuple[str, int]] = {}
    with pytest.raises(KeyboardInterrupt):
        run.run(["slow", "quick"], kept.update, lambda: None)
    assert kept == {"quick": ("about quick", 1)} and daemons == [
        True,
        True,
    ]  # daemon threads hold up no exit
    held.set()


def test_an_interrupt_ends_pauses(server: FakeEndpoint, interrupt: Callable[[], None]) -> None:
    """One request is answered after the interrupt, while the other pauses as it is told."""

    def limits(body: dict[str, Any]) -> dict[str, Any] | int:
        if asked(body) == "prompt 0":
            return 429
        while not any(asked(body) == "prompt 0" for *_, body in server.requests):
            time.sleep(0.01)
        interrupt()
        return chatter(body)

    first, _ = chat(server, concurrency=2)
    server.reply, server.pause = limits, 60_000
    texts: dict[str, str] = {}
    with pytest.raises(KeyboardInterrupt):
        first.write(PROMPTS, texts.update)
    assert texts == {"prompt 1": "about prompt 1"} and len(server.requests) == 2


def test_the_newer_length_key_is_used_if_the_endpoint_asks_for_it(server: FakeEndpoint) -> None:
    def newer(body: dict[str, Any]) -> dict[str, Any] | int:
        return 400 if "max_tokens" in body else chatter(body)

    server.said = f"{'x' * 300} 'max_tokens' is not supported; use 'max_completion_tokens' instead"
    server.reply = newer
    first, _ = chat(server, concurrency=2, max_new_tokens=9)
    assert first.generate(PROMPTS) == [f"about {p}" for p in PROMPTS]
    bodies = [body for *_, body in server.requests if "max_tokens" not in body]
    assert [body["max_completion_tokens"] for body in bodies] == [9] * 4
    assert len(server.requests) - len(bodies) in (1, 2)  # at most once per worker
    server.reply = lambda body: 400
    with pytest.raises(EncoderError, match="failed for model 'm'"):
        first.generate(PROMPTS[:1])


def test_an_endpoint_that_keeps_failing_is_named(server: FakeEndpoint) -> None:
    (generator, _) = chat(server, max_retries=1, concurrency=1)
    server.failures[:] = [500] * 9
    with pytest.raises(EncoderError, match="failed for model 'm' .*texts that arrived before are"):
        generator.generate(PROMPTS[:1])


@pytest.mark.parametrize(
    "body", [b"", b"[]", b"{}", b'{"choices": []}', b'{"choices": [{"message": 1}]}',
             b'{"choices": [{"message": {"content": 3}}]}', b"[" * 100_000]
)  # fmt: skip
def test_answers_of_another_form_are_refused(body: bytes) -> None:
    with pytest.raises(EncoderError, match="text"):
        read_chat(body)


def test_a_refusal_is_an_empty_text() -> None:
    assert read_chat(b'{"choices": [{"message": {"content": null}}]}') == ("", 0)


def test_a_usage_of_another_form_loses_no_text() -> None:
    body = b'{"choices": [{"message": {"content": "a"}}], "usage": "n/a"}'
    assert read_chat(body) == ("a", 0)


def test_an_answer_without_a_text_is_quoted() -> None:
    with pytest.raises(EncoderError, match="the model is loading"):
        read_chat(b'{"error": {"message": "the model is loading"}}')


def test_a_missing_model_or_api_key_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    with pytest.raises(EncoderError, match="set generator_model"):
        create_generators(PlainConfig(generator="openai"))
    with pytest.raises(EncoderError, match="OPENAI_API_KEY holds no API key; .*generator_base_url"):
        create_generators(PlainConfig(generator="openai", generator_model="m"))
