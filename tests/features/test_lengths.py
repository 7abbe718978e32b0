"""Texts at an encoder's token limit. Here each word is a token, and a text has one more."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
from made_texts import CountingEncoder, PlainConfig

from recbole_llm.data.rows import training
from recbole_llm.features import attach
from recbole_llm.features.contents import prompts
from recbole_llm.features.contents.lengths import TokenLimit

Make = Callable[..., Any]
TITLES = ["Toy Story", "Heat", "Babe", "The Red Story of the Night"]  # oldest first


class Words:
    """Counts words and records the texts that it counted."""

    def __init__(self, max_tokens: int | None) -> None:
        self.max_tokens = max_tokens
        self.counted: list[str] = []

    def token_counts(self, texts: Sequence[str]) -> list[int]:
        self.counted += texts
        return [1 + len(text.split()) for text in texts]


def test_encoders_that_do_not_know_their_limit_have_none() -> None:
    assert TokenLimit.of(CountingEncoder(), PlainConfig()) is None
    assert TokenLimit.of(Words(None), PlainConfig()) is None
    assert TokenLimit.of(Words(5), PlainConfig()) is not None


def test_a_long_prefix_takes_its_part_of_the_limit() -> None:
    prefix = "one two three four five six seven "

    class Prefixed(Words):
        def token_counts(self, texts: Sequence[str]) -> list[int]:
            return super().token_counts([prefix + text for text in texts])

    limit = TokenLimit.of(Prefixed(10), PlainConfig(encoder_prefix=prefix))
    assert limit is not None and limit.too_long(["x y", "x y z"]) == [1]


def test_only_texts_that_may_be_too_long_are_tokenized() -> None:
    words = Words(8)
    limit = TokenLimit(words, 8)
    assert limit.too_long(["a b", "c"]) == [] and words.counted == []
    texts = ["a", "a b c d", "a b c d e f g h", "a " * 7, "long-words-count-once"]
    assert limit.too_long(texts) == [2]
    # Each word is counted once, and so is the text whose words add up to about the limit.
    long = [
        "",
        *(f" {w}" for w in ["a", "b", "c", "d", "e", "f", "g", "h", "long-words-count-once"]),
    ]
    assert words.counted == [*long, "a " * 7]


@pytest.fixture
def users(monkeypatch: pytest.MonkeyPatch, encoder: CountingEncoder) -> CountingEncoder:
    """u1 has all four items, u3 the first alone; the encoder reads ten tokens."""
    monkeypatch.setattr(prompts, "ask_plugins", lambda hook, config, dataset: None)
    history = np.array([1, 1, 1, 1, 3]), np.array([1, 2, 3, 4, 1])
    monkeypatch.setattr(training, "training_interactions", lambda dataset: history)
    words = Words(10)
    encoder.max_tokens = words.max_tokens  # type: ignore[attr-defined]
    encoder.token_counts = words.token_counts  # type: ignore[attr-defined]
    return encoder


def data(make_dataset: Make) -> Any:
    rows = [f"{10 * (i + 1)}\t{title}" for i, title in enumerate(TITLES)]
    items = "\n".join(["item_id:token\ttitle:token_seq", *rows]) + "\n"
    return make_dataset(items, tokens=("10", "20", "30", "40"))


def test_a_users_newest_items_stay(
    config: PlainConfig, make_dataset: Make, users: CountingEncoder,
    caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    """The whole text of u1 has 12 tokens; without shortening, its newest item would be cut."""
    config["user_prompt"] = "Items: {{ titles | join('; ') }}"
    with caplog.at_level(logging.INFO):
        attach.features_of(data(make_dataset), config)["user_text"]
    assert sorted(users.seen) == [
        "Items: Heat; Babe; The Red Story of the Night",
        "Items: Toy Story",
    ]
    expected = "user texts: 1 of 2 are shortened to the encoder's 10 tokens by leaving out 1 of "
    assert f"{expected}their oldest items; 0 are cut, since" in caplog.text
    assert "are cut at" not in caplog.text


@pytest.mark.parametrize(("tokens", "kept"), [(12, 4), (10, 3), (9, 2), (8, 1), (3, 1)])
def test_user_texts_hold_as_many_items_as_fit(
    config: PlainConfig, make_dataset: Make, users: CountingEncoder, tokens: int, kept: int
) -> None:
    """One item stays even if it alone does not fit."""
    users.max_tokens = tokens  # type: ignore[attr-defined]
    config["user_prompt"] = "Items: {{ titles | join('; ') }}"
    attach.features_of(data(make_dataset), config)["user_text"]
    assert f"Items: {'; '.join(TITLES[-kept:])}" in users.seen


def test_items_that_are_cut_are_named(
    config: PlainConfig, make_dataset: Make, users: CountingEncoder,
    caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    users.max_tokens = 5  # type: ignore[attr-defined]
    config["item_prompt"] = "Its title: {{ title }}"
    attach.item_embeddings(config, data(make_dataset))
    assert "item texts: 1 of 4 are cut at the encoder's 5 tokens: '40'" in caplog.text
