from __future__ import annotations

import numpy as np
import pytest

from recbole_llm.features.reduce import pca, whitened, whitening


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


def test_whitening_by_hand() -> None:
    """Deviations in a ratio of 9 to 1 come to be as 3 to 1; their mean square stays at 41."""
    rows = np.array([[19.0, 5], [1, 5], [10, 6], [10, 4]]) * np.sqrt(2)
    center, square = whitening(rows, 0.5)
    np.testing.assert_allclose(center, np.array([10, 5]) * np.sqrt(2))
    deviations = ((rows - center) @ square).std(0)
    np.testing.assert_allclose(deviations, np.sqrt([0.9 * 82, 0.1 * 82]))
    _, square = whitening(rows, 0.5, spread=2.0)
    np.testing.assert_allclose(((rows - center) @ square).std(0), np.sqrt([0.9 * 8, 0.1 * 8]))


def test_whitened_rows_keep_their_spread_and_padding_stays_zero() -> None:
    matrix = np.random.default_rng(0).normal(size=(50, 4)) @ np.diag([5.0, 2, 1, 0.2]) + 3
    matrix = matrix.astype(np.float32)
    matrix[0] = 0
    white = whitened(matrix, 1.0)
    assert not white[0].any()
    centred = matrix[1:] - matrix[1:].mean(0)
    assert np.linalg.norm(white[1:]) == pytest.approx(np.linalg.norm(centred), rel=1e-5)
    np.testing.assert_allclose(white[1:].T @ white[1:], np.eye(4) * (white**2).sum() / 4, atol=1e-2)
    assert whitened(matrix, 0.0) is matrix
    with_gap = np.insert(matrix, 7, 0, axis=0)  # an item without a vector
    np.testing.assert_allclose(whitened(with_gap, 1.0), np.insert(white, 7, 0, axis=0), atol=1e-5)
