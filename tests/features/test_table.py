from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from recbole_llm.core.errors import first_names
from recbole_llm.features.tables.table import EmbeddingTable, TableError, has_vector


def test_any_numbers_and_tokens() -> None:
    table = EmbeddingTable.build([[1.0, 2.0], [3.0, 4.0]], [7, "b"], "f")
    whole = EmbeddingTable.build(np.array([[1, 2], [3, 4]], np.int8), [7, "b"], "f")
    assert table.matrix.dtype == whole.matrix.dtype == np.float32
    np.testing.assert_array_equal(table.matrix, whole.matrix)
    assert list(table.tokens) == ["7", "b"]
    assert (len(table), table.dimension) == (2, 2)


@pytest.mark.parametrize(
    ("matrix", "tokens", "message"),
    [
        (np.zeros((2, 2)), ["a"], "2 rows but 1 tokens"),
        (np.zeros(2), ["a", "b"], r"needs a float32 matrix \[n, D\], got float32 of shape \(2,\)"),
        (np.zeros((2, 2), bool), ["a", "b"], "must be numbers, got dtype bool"),
        (np.zeros((4, 1)), list("abab"), "2 tokens with more than one row: 'a', 'b'"),
    ],
)
def test_bad_tables_are_refused(matrix: np.ndarray, tokens: list[str], message: str) -> None:
    with pytest.raises(TableError, match=message):
        EmbeddingTable.build(matrix, tokens)


def test_names_in_messages_are_few() -> None:
    assert first_names("ab") == "'a', 'b'"
    assert first_names("abcdefg") == "'a', 'b', 'c', 'd', 'e', …"


@pytest.mark.parametrize("fingerprint", [None, 3, ""])
def test_a_table_needs_a_fingerprint(fingerprint: Any) -> None:
    with pytest.raises(TableError, match="needs a fingerprint, .* got "):
        EmbeddingTable(np.ones((1, 1), np.float32), ["a"], fingerprint)


def test_a_table_without_a_fingerprint_gets_that_of_its_vectors() -> None:
    first, same, other = (EmbeddingTable.build([[x]], ["a"]).fingerprint for x in (1.0, 1.0, 2.0))
    assert first == same != other
    assert EmbeddingTable.build([[1.0]], ["a"], "own").fingerprint == "own"


def test_the_fingerprint_of_vectors_knows_whose_they_are() -> None:
    vectors = [[1.0], [2.0]]
    first, other = (EmbeddingTable.build(vectors, tokens).fingerprint for tokens in ("ab", "ba"))
    assert first != other


def test_a_vector_may_have_zeros() -> None:
    assert has_vector(np.array([[0.0, 0.0], [0.0, -1.0], [2.0, 3.0]])).tolist() == [0, 1, 1]
