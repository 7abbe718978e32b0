from __future__ import annotations

import logging

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from recbole_llm.features.tables.align import align
from recbole_llm.features.tables.table import EmbeddingTable, TableError

ROWS = {"a": [1, 2], "b": [3, 4], "nan": [np.nan, 1], "zero": [0, 0], "c": [5, 12]}


def table(*names: str) -> EmbeddingTable:
    return EmbeddingTable.build(np.array([ROWS[n] for n in names], float), names, "f")


def test_rows_follow_the_tokens(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        aligned = align(table("c", "a", "b"), ["[PAD]", "b", "c"])
    np.testing.assert_array_equal(aligned.matrix, [[0, 0], [3, 4], [5, 12]])
    assert aligned.tokens == ["[PAD]", "b", "c"]
    assert "item embeddings cover 2 of 2; 1 row of other items left out" in caplog.text


def test_a_row_for_padding_is_not_used() -> None:
    own = EmbeddingTable.build(np.ones((2, 2)), ["[PAD]", "a"], "f")
    np.testing.assert_array_equal(align(own, ["[PAD]", "a"]).matrix, [[0, 0], [1, 1]])


def test_unusable_rows_are_an_error_by_default() -> None:
    expected = (
        "item embeddings cover 2 of 5; 1 missing ('x'); 1 non-finite ('nan'); 1 all-zero ('zero'); "
        "complete the texts or vectors, or set missing_embedding to zeros or mean"
    )
    with pytest.raises(TableError) as caught:
        align(table("a", "b", "nan", "zero"), ["[PAD]", "a", "x", "nan", "zero", "b"])
    assert str(caught.value) == expected


def test_an_infinite_number_makes_a_row_unusable() -> None:
    own = EmbeddingTable.build([[np.inf, 1], [1, 2]], ["a", "b"], "f")
    with pytest.raises(TableError, match=r"cover 1 of 2; 1 non-finite \('a'\)"):
        align(own, ["[PAD]", "a", "b"])


@pytest.mark.parametrize(("policy", "filled"), [("zeros", [0, 0]), ("mean", [3, 7])])
def test_unusable_rows_are_filled_by_the_policy(
    policy: str, filled: list[float], caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        aligned = align(
            table("a", "nan", "c", "zero", "b"), ["[PAD]", "a", "nan", "x", "zero", "c"], policy
        )
    expected = [[0, 0], [1, 2], filled, filled, filled, [5, 12]]
    np.testing.assert_array_equal(aligned.matrix, expected)
    assert "cover 2 of 5; 1 missing ('x'); 1 non-finite ('nan'); 1 all-zero ('zero')" in caplog.text
    assert f"missing_embedding: {policy}" in caplog.text


def test_no_row_at_all_is_an_error_under_any_policy() -> None:
    with pytest.raises(TableError, match="2 missing .*not one item has a vector: are the tokens r"):
        align(table("a"), ["[PAD]", "1", "2"], "mean")


def test_the_fingerprint_changes_with_rows_order_and_policy() -> None:
    tokens = ["[PAD]", "a", "x"]
    seen = {
        align(table("a"), tokens, "zeros").fingerprint,
        align(table("a"), tokens, "mean").fingerprint,
        align(table("a", "b"), ["[PAD]", "a", "b"]).fingerprint,
        align(table("a", "b"), ["[PAD]", "b", "a"]).fingerprint,
    }
    assert len(seen) == 4
    whole = [align(table("a", "b"), ["[PAD]", "a", "b"], p).fingerprint for p in ("zeros", "mean")]
    assert seen >= set(whole) and whole[0] == whole[1]  # a policy that changes nothing


@given(st.lists(st.integers(0, 50), unique=True, min_size=1), st.randoms())
def test_any_order_of_rows_gives_the_same_matrix(ids: list[int], rng: object) -> None:
    names = [str(i) for i in ids]
    shuffled = list(names)
    rng.shuffle(shuffled)  # type: ignore[attr-defined]
    own, same = (
        EmbeddingTable.build(np.array([[float(n) + 1] for n in order]), order, "f")
        for order in (shuffled, names)
    )
    found = align(own, ["[PAD]", *names])
    np.testing.assert_array_equal(found.matrix[:, 0], [0, *(i + 1 for i in ids)])
    np.testing.assert_array_equal(found.contents, align(same, ["[PAD]", *names]).contents)
