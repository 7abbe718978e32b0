from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recbole_llm.features.tables import retrieval
from recbole_llm.features.tables.retrieval import nearest_neighbors


def brute_force(vectors: np.ndarray, k: int) -> np.ndarray:
    units = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    cosine = units @ units.T
    np.fill_diagonal(cosine, -2)
    return np.argsort(-cosine, axis=1)[:, :k]


def test_hand_computed() -> None:
    # Directions of 0, 10, 30 and 100 degrees; lengths do not matter.
    angles = np.deg2rad([0, 10, 30, 100])
    vectors = np.stack([np.cos(angles), np.sin(angles)], axis=1) * [[1], [5], [0.1], [2]]
    assert nearest_neighbors(vectors, 2).tolist() == [[1, 2], [0, 2], [1, 0], [2, 1]]


@settings(max_examples=25)
@given(st.integers(2, 60), st.integers(1, 8), st.integers(0, 1000))
def test_equals_brute_force(n: int, k: int, seed: int) -> None:
    vectors = np.random.default_rng(seed).normal(size=(n, 8))
    found = nearest_neighbors(vectors, k)
    width = min(k, n - 1)
    assert found.shape == (n, k)
    assert (found[:, :width] == brute_force(vectors, width)).all()
    assert (found[:, width:] == -1).all()


def test_blocks_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    vectors = np.random.default_rng(0).normal(size=(50, 6)).astype(np.float32)
    whole = nearest_neighbors(vectors, 4)
    monkeypatch.setattr(retrieval, "BLOCK", 7)
    assert (nearest_neighbors(vectors, 4) == whole).all()


def test_never_itself_even_among_copies() -> None:
    found = nearest_neighbors(np.ones((20, 3)), 4)
    assert (found != np.arange(20)[:, None]).all()
    assert all(len(set(row)) == 4 for row in found.tolist())


def test_only_candidates_with_a_direction_take_part() -> None:
    vectors = np.random.default_rng(1).normal(size=(10, 4))
    vectors[3] = 0
    candidates = np.ones(10, dtype=bool)
    candidates[[0, 5]] = False
    found = nearest_neighbors(vectors, 9, candidates)
    assert (found[[0, 3, 5]] == -1).all()
    assert (found[:, 6:] == -1).all()
    assert set(found[1]) == {-1, 2, 4, 6, 7, 8, 9}


@pytest.mark.parametrize("n", [0, 1])
def test_a_single_row_has_no_neighbors(n: int) -> None:
    assert (nearest_neighbors(np.ones((n, 3)), 2) == -1).all()


def test_inverted_file_is_close_to_exact_and_repeatable(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(2)
    centers = rng.normal(size=(30, 16))
    vectors = centers[rng.integers(0, 30, 3000)] + 0.3 * rng.normal(size=(3000, 16))
    exact = nearest_neighbors(vectors, 10)
    monkeypatch.setattr(retrieval, "EXACT_UP_TO", 1000)
    found = nearest_neighbors(vectors, 10)
    recall = np.mean([len(set(a) & set(b)) / 10 for a, b in zip(exact, found, strict=True)])
    assert recall > 0.9
    assert (found == nearest_neighbors(vectors, 10)).all()


def test_an_inverted_file_finds_no_neighbor_beyond_its_clusters(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(retrieval, "EXACT_UP_TO", 10)
    monkeypatch.setattr(retrieval, "PROBES", 1)
    found = nearest_neighbors(np.random.default_rng(0).normal(size=(50, 4)), 20)
    for row in found.tolist():
        others = [other for other in row if other != -1]
        assert len(others) < 20 and row == [*dict.fromkeys(others), *[-1] * (20 - len(others))]


def test_vectors_that_are_not_finite() -> None:
    with pytest.raises(ValueError, match="finite matrix"):
        nearest_neighbors(np.full((3, 2), np.nan), 1)


def test_faiss_is_imported_on_use_alone() -> None:
    code = "import sys, recbole_llm.features.tables.retrieval; sys.exit('faiss' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
