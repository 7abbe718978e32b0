"""Texts for prompts: each prompt is asked once, and texts are stored as they arrive."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from made_generators import Echo, Priced

from recbole_llm.features.stored.generated_texts import TextStore
from recbole_llm.offline.generators.base import Keep
from recbole_llm.offline.stage import StageError
from recbole_llm.offline.write_texts import log_cost, write_texts


@pytest.fixture
def store(tmp_path: Path) -> Iterator[TextStore]:
    with closing(TextStore(tmp_path / "cache")) as opened:
        yield opened


def test_each_prompt_is_asked_once(store: TextStore) -> None:
    echo = Echo()
    texts, done = write_texts(echo, store, ["b", "a", "b"], progress=False)
    assert (texts, done, echo.asked) == (["about b", "about a", "about b"], 2, ["b", "a"])
    texts, done = write_texts(echo, store, ["a", "c"], progress=False)
    assert (texts, done, echo.asked) == (["about a", "about c"], 1, ["b", "a", "c"])


def test_empty_texts_are_counted(store: TextStore, caplog: pytest.LogCaptureFixture) -> None:
    class RefusesAB(Echo):
        def generate(self, prompts: Sequence[str]) -> Sequence[str]:
            return ["" if p < "c" else p for p in prompts]

    write_texts(RefusesAB(), store, ["a", "b", "b", "c"], progress=False)
    (record,) = caplog.records
    assert "2 of 3 texts are empty" in record.getMessage()


def test_nothing_is_stored_if_all_texts_are_empty(store: TextStore) -> None:
    """Once the generator is mended, it is asked again."""

    class Empty(Echo):
        def generate(self, prompts: Sequence[str]) -> Sequence[str]:
            return ["" for _ in prompts]

    prompts = ["a", "b", "c", "d", "e"]
    with pytest.raises(StageError, match="^Generating: the language model wrote nothing .* of 5 p"):
        write_texts(Empty(), store, prompts, progress=False)
    assert len(store) == 0
    assert write_texts(Echo(), store, prompts, progress=False)[1] == 5
    assert len(store) == 5


def test_empty_texts_are_stored_beside_one_that_is_not(store: TextStore) -> None:
    class OnlyD(Echo):
        def generate(self, prompts: Sequence[str]) -> Sequence[str]:
            return [p if p == "d" else "" for p in prompts]

    prompts = ["a", "b", "c", "d", "e"]
    assert write_texts(OnlyD(), store, prompts, progress=False) == (["", "", "", "d", ""], 5)
    assert len(store) == 5


def test_the_cost_is_logged_once_for_generators_of_one_price(
    store: TextStore, caplog: pytest.LogCaptureFixture
) -> None:
    priced = [Priced(number, price) for number, price in enumerate("aaba")]
    write_texts(priced[1], store, ["x"], progress=False)
    write_texts(priced[3], store, ["x", "y"], progress=False)
    with caplog.at_level("INFO", "recbole_llm"):
        log_cost([*priced, Echo()], store, ["x", "y", "x"], "thoughts")
    said = [record.getMessage() for record in caplog.records]
    assert said == ["thoughts: 3 prompts at a", "thoughts: 2 prompts at b"]
    assert all(hasattr(record, "shown") for record in caplog.records)


def test_a_generator_with_its_own_write_hands_over_single_texts(store: TextStore) -> None:
    class OneByOne(Echo):
        def write(self, prompts: Sequence[str], keep: Keep) -> None:
            for number, prompt in enumerate(reversed(prompts), 1):
                keep({prompt: f"about {prompt}"})
                assert len(store) == number

    echo = OneByOne()
    texts, done = write_texts(echo, store, ["a", "b", "c", "d"], progress=False)
    assert (texts, done) == ([f"about {p}" for p in "abcd"], 4) and not echo.asked


def test_an_interrupted_run_is_resumed(store: TextStore) -> None:
    echo, prompts = Echo(), [f"p{i}" for i in range(10)]
    echo.interrupted_after = 6
    with pytest.raises(KeyboardInterrupt):
        write_texts(echo, store, prompts, progress=False)
    assert len(store) == 6
    echo.interrupted_after = None
    texts, done = write_texts(echo, store, prompts, progress=False)
    assert (done, len(echo.asked)) == (4, 10)
    assert texts == [f"about {p}" for p in prompts]


class Together(Echo):
    """An echo whose texts depend on the prompts beside them."""

    together = True

    def generate(self, prompts: Sequence[str]) -> Sequence[str]:
        return [f"{text} of {prompts}" for text in super().generate(prompts)]


@pytest.mark.parametrize("before", [[], ["p1"], ["p0", "p1"], ["p0", "p1", "p2"]])
def test_stored_texts_change_none_written_together(store: TextStore, before: list[str]) -> None:
    prompts = [f"p{i}" for i in range(8)]
    write_texts(Together(), store, before, progress=False)
    generator = Together()
    texts, done = write_texts(generator, store, prompts, progress=False)
    batches = [prompts[:3], prompts[3:6], prompts[6:]]
    assert texts == [f"about {p} of {batch}" for batch in batches for p in batch]
    assert done == len(generator.asked) == (5 if len(before) == 3 else 8)


def test_texts_of_another_fingerprint_are_not_used(store: TextStore) -> None:
    write_texts(Echo(), store, ["a"], progress=False)
    other = Echo()
    other.fingerprint = "echo-2"
    assert write_texts(other, store, ["a"], progress=False)[1] == 1


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (["one"], "gave 1 texts for 2 prompts"),
        ("ab", "gave 2 texts for 2 prompts"),
        (["a", None], "gave a NoneType in place of a text"),
        (None, "gave a NoneType in place of texts"),
    ],
)
def test_answers_that_are_no_texts_are_refused_and_not_stored(
    store: TextStore, answer: Any, message: str
) -> None:
    echo = Echo()
    echo.generate = lambda prompts: answer  # type: ignore[method-assign]
    with pytest.raises(StageError, match=message):
        write_texts(echo, store, ["a", "b"], progress=False)
    assert len(store) == 0
