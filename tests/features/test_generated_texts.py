"""Generated texts in the store."""

from __future__ import annotations

import sqlite3
import unicodedata
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from recbole_llm.features.stored import generated_texts
from recbole_llm.features.stored.generated_texts import TextStore, clean_text
from recbole_llm.features.stored.store import FILE_NAME, StoreError
from recbole_llm.features.stored.vectors import EmbeddingStore


@pytest.fixture
def store(tmp_path: Path) -> Iterator[TextStore]:
    with closing(TextStore(tmp_path)) as opened:
        yield opened


@pytest.mark.parametrize(
    ("text", "clean"),
    [
        ("  a\tb\n", "a\tb"),
        ("a\r\nb\rc", "a\nb\nc"),
        ("a\x00b\x1b[31mc\x7f\x85", "ab[31mc"),
        ("a\ud800b", "ab"),
        ("left\u202eright", "leftright"),
        ("naïve 日本 👩‍🚀", "naïve 日本 👩‍🚀"),
    ],
)
def test_control_characters_are_no_part_of_a_text(text: str, clean: str) -> None:
    assert clean_text(text) == clean


@given(st.text(st.characters(exclude_categories=()), max_size=60), st.integers(1, 50))
def test_any_text_becomes_a_bounded_one(text: str, longest: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(generated_texts, "MAX_CHARACTERS", longest)
        clean = clean_text(text)
        assert clean_text(clean) == clean
    assert len(clean) <= longest
    assert clean.encode("utf-8").decode("utf-8") == clean
    assert not [c for c in clean if unicodedata.category(c) in ("Cc", "Cs") and c not in "\n\t"]


def test_texts_lie_beside_vectors_in_one_file(store: TextStore, tmp_path: Path) -> None:
    keys = store.keys("g", ["p", "q", "r"])
    store.add(keys[:2], ["one\x00", "é" * 30_000])
    assert store.present(keys) == set(keys[:2])
    assert store.load(keys) == {keys[0]: "one", keys[1]: "é" * 20_000}
    with closing(EmbeddingStore(tmp_path)) as vectors:
        vectors.add(vectors.keys("g", ["p"]), np.ones((1, 2), np.float32))
        assert (len(vectors), len(store)) == (1, 2)
        assert not set(vectors.keys("g", ["p"])) & set(keys)
    assert [f.name for f in tmp_path.iterdir() if f.suffix == ".sqlite"] == [FILE_NAME]


def test_keys_separate_generator_and_prompt(store: TextStore) -> None:
    assert (
        len({*store.keys("g", ["a", "b"]), *store.keys("h", ["a"]), *store.keys("ga", [""])}) == 4
    )


def test_marks_lie_beside_texts(store: TextStore) -> None:
    assert not store.has_mark("picture", "a")
    store.mark("picture", "a")
    assert store.has_mark("picture", "a")
    assert not store.has_mark("picture", "b") and not store.has_mark("other", "a")
    keys = store.keys("picture", ["a"])  # the key in caches of earlier versions
    assert store.load(keys) == {keys[0]: "usable"}


def test_a_stored_text_is_not_overwritten(store: TextStore) -> None:
    keys = store.keys("g", ["p"])
    store.add(keys, ["first"])
    store.add(keys, ["second"])
    assert store.load(keys) == {keys[0]: "first"}


@pytest.mark.parametrize(
    ("column", "value", "reason"),
    [("text", b"other", "does not match its checksum"), ("text", "other", "does not match"),
     ("crc", 7, "does not match"), ("text, crc", (b"\xff", 4278190080), "codec can't decode")],
)  # fmt: skip
def test_a_changed_row_is_found_out(
    store: TextStore, tmp_path: Path, column: str, value: object, reason: str
) -> None:
    keys = store.keys("g", ["p"])
    store.add(keys, ["text"])
    values = value if isinstance(value, tuple) else (value,)
    marks = ", ".join(f"{name} = ?" for name in column.split(", "))
    with closing(sqlite3.connect(tmp_path / FILE_NAME)) as raw:
        raw.execute(f"UPDATE texts SET {marks}", values)
        raw.commit()
    with pytest.raises(StoreError, match=f"is damaged .*{reason}"):
        store.load(keys)
