from __future__ import annotations

import numpy as np
import pytest

from recbole_llm.embeddings.reduce import pca


def test_points_on_a_line_by_hand() -> None:
    points = np.array([[9.0, 9.0], [0, 0], [3, 4], [6, 8]])  # row 0 is padding
    # Direction (3, 4) / 5, mean (3, 4): coordinates -5, 0, 5; the largest loading is positive.
    np.testing.assert_allclose(pca(points, 1), [[0], [-5], [0], [5]], atol=1e-6)


def test_against_the_singular_values() -> None:
    rng = np.random.default_rng(0)
    rows = rng.standard_normal((50, 8)) * np.arange(1, 9)
    out = pca(rows, 5, skip_row0=False)
    centred = rows - rows.mean(axis=0)
    u, s, _ = np.linalg.svd(centred, full_matrices=False)
    np.testing.assert_allclose(np.abs(out), np.abs(u[:, :5] * s[:5]), rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(out.mean(axis=0), 0, atol=1e-5)


def test_the_sign_is_fixed_and_padding_has_no_say() -> None:
    rng = np.random.default_rng(1)
    rows = rng.standard_normal((20, 6)).astype(np.float32)
    out = pca(rows, 4)
    other = rows.copy()
    other[0] = 1e6
    np.testing.assert_array_equal(out, pca(other, 4))
    assert not out[0].any()
    flipped = pca(-rows, 4)
    np.testing.assert_allclose(flipped, -out, atol=1e-5)  # same directions, mirrored points
    assert out.dtype == np.float32


@pytest.mark.parametrize("dim", [0, 4])
def test_impossible_dimensions(dim: int) -> None:
    with pytest.raises(ValueError, match=f"PCA to {dim} dimensions of 3 vectors of width 5: at m"):
        pca(np.ones((4, 5)), dim)
