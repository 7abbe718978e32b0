"""Workers of an endpoint: which prompts they ask again, which get no text, what is stored."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from made_chat import asked, chat, chatter
from made_endpoint import FakeEndpoint

from recbole_llm.features.encoders.base import EncoderError
from recbole_llm.features.stored.generated_texts import TextStore
from recbole_llm.offline.write_texts import write_texts

PROMPTS = [f"prompt {i}" for i in range(12)]
TEXTS = [f"about {p}" for p in PROMPTS]
Reply = Callable[[dict[str, Any]], Any]


@pytest.fixture
def store(tmp_path: Path) -> Iterator[TextStore]:
    with closing(TextStore(tmp_path)) as opened:
        yield opened


def write(server: FakeEndpoint, store: TextStore, prompts: list[str], **keys: Any) -> list[str]:
    return write_texts(chat(server, **keys)[0], store, prompts, progress=False)[0]


def requests_by_prompt(server: FakeEndpoint) -> Counter[str]:
    return Counter(asked(body) for *_, body in server.requests)


def answering_badly_to(prompt: str, answer: Any) -> Reply:
    return lambda body: answer if asked(body) == prompt else chatter(body)


@pytest.mark.parametrize(
    ("bad", "times"), [({"choices": []}, 3), ({"choices": "long" * 2**18}, 2), (400, 2), (422, 2)]
)
def test_a_prompt_without_an_answer_gets_an_empty_text_if_others_are_answered(
    server: FakeEndpoint, store: TextStore, caplog: pytest.LogCaptureFixture, bad: Any, times: int
) -> None:
    """Other prompts do not wait for it, neither now nor in a repeated run."""
    server.reply = answering_badly_to("prompt 1", bad)
    for _ in range(2):
        texts = write(server, store, PROMPTS, max_retries=2, concurrency=1)
        assert texts == [TEXTS[0], "", *TEXTS[2:]]
        assert requests_by_prompt(server)["prompt 1"] == times
    assert "an empty text for 1 prompt, refused or never answered" in caplog.text


@pytest.mark.parametrize("bad", [{"choices": []}, {"choices": "long" * 2**18}, 400])
def test_bad_first_answers_cost_no_text(server: FakeEndpoint, store: TextStore, bad: Any) -> None:
    server.reply = lambda body: bad if len(server.requests) <= 3 else chatter(body)
    assert write(server, store, PROMPTS, max_retries=0, concurrency=3) == TEXTS


@pytest.mark.parametrize("concurrency", [1, 3])
@pytest.mark.parametrize("bad", [{"choices": []}, 400, 401])
def test_an_endpoint_that_stops_answering_ends_the_run(
    server: FakeEndpoint, store: TextStore, bad: Any, concurrency: int
) -> None:
    """An account may be used up, for example. The next run asks the remaining prompts."""
    keys = {"max_retries": 0, "concurrency": concurrency}
    prompts = [f"prompt {i}" for i in range(60)]
    for answered in (5, 0):
        before = len(server.requests)
        left = iter(range(answered))
        server.reply = lambda body, left=left: bad if next(left, None) is None else chatter(body)
        with pytest.raises(EncoderError, match="failed for model 'm'"):
            write(server, store, prompts, **keys)
        assert len(store) == 5
        # Answered; unanswered in a row and under way; asked again after an answer; one probe.
        limit = answered + 4 * concurrency + 3 * concurrency + 1
        assert len(server.requests) - before <= limit
    server.reply = chatter
    assert write(server, store, prompts, **keys) == [f"about {p}" for p in prompts]
    assert len(store) == 60


def test_refusals_of_the_last_prompts_are_told_apart_by_a_probe(
    server: FakeEndpoint, store: TextStore
) -> None:
    server.reply = answering_badly_to("prompt 11", 400)
    assert write(server, store, PROMPTS, concurrency=1) == [*TEXTS[:-1], ""]
    assert requests_by_prompt(server)["prompt 10"] == 3  # again after each refusal
    server.reply = answering_badly_to("new", 400)
    assert write(server, store, [*PROMPTS, "new"]) == [*TEXTS[:-1], "", ""]
    assert len(requests_by_prompt(server)) == 14  # with the new one and the trivial probe


def test_many_refusals_in_a_row_do_not_end_the_run(server: FakeEndpoint, store: TextStore) -> None:
    server.reply = lambda body: 400 if asked(body).startswith("bad") else chatter(body)
    prompts = ["good", *(f"bad {i}" for i in range(20)), "better"]
    texts = write(server, store, prompts, concurrency=2)
    assert texts == ["about good", *[""] * 20, "about better"]


def test_a_failed_prompt_raises_after_the_others_are_stored(
    server: FakeEndpoint, store: TextStore
) -> None:
    server.reply = answering_badly_to("prompt 1", 500)
    with pytest.raises(EncoderError, match="InternalServerError"):
        write(server, store, PROMPTS, max_retries=0, concurrency=1)
    server.reply = chatter
    assert len(store) == 11 and write(server, store, PROMPTS) == TEXTS
    assert len(server.requests) == 13


def test_other_answers_are_stored_while_one_is_slow(
    server: FakeEndpoint, store: TextStore, tmp_path: Path
) -> None:
    prompts, kept = [f"prompt {i}" for i in range(40)], []

    def slow(body: dict[str, Any]) -> dict[str, Any]:
        if asked(body) == "prompt 1":
            deadline = time.monotonic() + 60
            with closing(TextStore(tmp_path)) as beside:
                while len(beside) < 39 and time.monotonic() < deadline:
                    time.sleep(0.01)
                kept.append(len(beside))
        return chatter(body)

    server.reply = slow
    assert write(server, store, prompts, concurrency=2) == [f"about {p}" for p in prompts]
    assert kept == [39]


def test_a_store_error_ends_the_run_at_once(server: FakeEndpoint) -> None:
    """It ends even while the endpoint makes the workers wait."""

    def reply(body: dict[str, Any]) -> Any:
        return chatter(body) if asked(body) == "prompt 0" else 429

    def full(texts: Any) -> None:
        raise OSError("no space left")

    server.reply = reply
    generator = chat(server, concurrency=4, max_retries=1, timeout=3)[0]
    with pytest.raises(OSError, match="no space left"):
        generator.write(PROMPTS, full)
    assert generator.endpoint.gate.stopped.is_set()


def test_an_endpoint_that_is_down_is_asked_once_by_each_worker(server: FakeEndpoint) -> None:
    server.reply = lambda body: 500
    with pytest.raises(EncoderError, match="InternalServerError"):
        chat(server, concurrency=3, max_retries=0)[0].generate(PROMPTS)
    assert len(server.requests) <= 4  # including a probe


def test_as_many_requests_run_at_once_as_concurrency_says(server: FakeEndpoint) -> None:
    barrier = threading.Barrier(5)
    server.reply = lambda body: (barrier.wait(60), chatter(body))[1]
    assert chat(server, concurrency=5)[0].generate(PROMPTS[:10]) == TEXTS[:10]
