"""The frozen table: no parameter, nothing in the checkpoint, checked inputs."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from recbole_llm.layers.embedding import FrozenEmbedding, map_distinct_rows


def test_each_distinct_row_is_computed_once() -> None:
    """Equal rows may be adjacent or apart."""
    seen = []

    def states(rows: torch.Tensor) -> torch.Tensor:
        seen.append(len(rows))
        return rows.float().sum(1, keepdim=True)

    rows = torch.tensor([[1, 2], [1, 2], [3, 4], [1, 2], [3, 4], [3, 4], [5, 0]])
    assert map_distinct_rows(states, rows).flatten().tolist() == [3, 3, 7, 3, 7, 7, 5]
    assert map_distinct_rows(states, rows[:0]).shape == (0, 1)
    assert seen == [3, 0]


def test_looks_up_rows() -> None:
    table = FrozenEmbedding(np.arange(6, dtype=np.float32).reshape(3, 2), "abc")
    assert table(torch.tensor([[2, 0]])).tolist() == [[[4.0, 5.0], [0.0, 1.0]]]
    assert (table.dimension, table.fingerprint) == (2, "abc")


def test_a_table_without_the_paddings_row_is_explained() -> None:
    """Three items have the ids 1 to 3."""
    with pytest.raises(ValueError, match=r"has 3 rows, .* got 1 to 3; .* after row 0, which is th"):
        FrozenEmbedding(np.ones((3, 2), np.float32))(torch.tensor([1, 3]))


def test_is_frozen_and_outside_the_checkpoint() -> None:
    table = FrozenEmbedding(torch.zeros(3, 2))
    assert not list(table.parameters())
    assert not table.state_dict()
    table.double()
    assert table.weight.dtype == torch.double


@pytest.mark.parametrize("matrix", [np.zeros(3, np.float32), np.zeros((3, 2), np.int64)])
def test_refuses_what_is_no_float_matrix(matrix: np.ndarray) -> None:
    with pytest.raises(ValueError, match="float matrix"):
        FrozenEmbedding(matrix)
