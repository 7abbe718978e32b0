from __future__ import annotations

import numpy as np
import pytest

from recbole_llm.features.tables.reduce import (
    WhitenedEmbedding,
    Whitener,
    expected_rows,
    pca,
    whitening,
)
from recbole_llm.features.tables.table import EmbeddingTable


def half_zeros(n: int = 40, width: int = 12) -> tuple[np.ndarray, np.ndarray]:
    """Return vectors with a mean far from zero, and these with a row of zeros before each."""
    vectors = np.random.default_rng(3).normal(size=(n, width)) * np.arange(width, 0, -1) + 20
    vectors = vectors.astype(np.float32)
    return vectors, np.stack([np.zeros_like(vectors), vectors], 1).reshape(2 * n, width)


def whitened(matrix: np.ndarray, power: float) -> np.ndarray:
    return Whitener(matrix, power)(matrix)


def test_points_on_a_line_by_hand() -> None:
    points = np.array([[0.0, 0.0], [1, 1], [4, 5], [7, 9], [0, 0]])  # rows of zeros are no points
    # Direction (3, 4) / 5, mean (4, 5): coordinates -5, 0, 5; the largest loading is positive.
    components = pca(points, 1)
    np.testing.assert_allclose(components.coordinates, [[0], [-5], [0], [5], [0]], atol=1e-6)
    np.testing.assert_allclose(components.axes, [[0.6], [0.8]])
    np.testing.assert_allclose(components.mean, [4, 5])
    assert components.real.tolist() == [False, True, True, True, False]
    assert components.spread() == pytest.approx(5)


def test_against_the_singular_values() -> None:
    rng = np.random.default_rng(0)
    rows = rng.standard_normal((50, 8)) * np.arange(1, 9)
    out = pca(rows, 5).coordinates
    centered = rows - rows.mean(axis=0)
    u, s, _ = np.linalg.svd(centered, full_matrices=False)
    np.testing.assert_allclose(np.abs(out), np.abs(u[:, :5] * s[:5]), rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(out.mean(axis=0), 0, atol=1e-5)
    assert out.dtype == np.float32


def test_the_sign_is_fixed() -> None:
    """Mirrored points have the same directions."""
    rows = np.random.default_rng(1).standard_normal((20, 6)).astype(np.float32)
    mirrored = pca(-rows, 4)
    np.testing.assert_allclose(mirrored.axes, pca(rows, 4).axes, atol=1e-6)
    largest = np.abs(mirrored.axes).argmax(0)
    assert (mirrored.axes[largest, range(4)] > 0).all()


@pytest.mark.parametrize(("n", "dim", "kept"), [(3, None, 3), (3, 9, 3), (9, None, 5), (9, 2, 2)])
def test_as_many_components_as_there_are(n: int, dim: int | None, kept: int) -> None:
    rows = np.random.default_rng(2).normal(size=(n, 5))
    assert pca(rows, dim).coordinates.shape == (n, kept)


def test_too_few_vectors() -> None:
    with pytest.raises(ValueError, match="need two item vectors or more, got 1"):
        pca(np.eye(3)[:1])


def test_zero_rows_do_not_change_the_components() -> None:
    vectors, with_gaps = half_zeros()
    alone, components = pca(vectors, 4), pca(with_gaps, 4)
    np.testing.assert_allclose(components.coordinates[1::2], alone.coordinates, atol=1e-5)
    assert not components.coordinates[::2].any()
    is_zero = ~components.real
    assert abs(np.corrcoef(components.coordinates[:, 0], is_zero)[0, 1]) < 1e-6
    for given, expected in zip(whitening(with_gaps, 0.7), whitening(vectors, 0.7), strict=True):
        np.testing.assert_allclose(given, expected)
    np.testing.assert_allclose(whitened(with_gaps, 0.7)[1::2], whitened(vectors, 0.7))


def test_whitening_by_hand() -> None:
    """Deviations of 9 and 1 become deviations in a ratio of 3 to 1; their mean square stays 41."""
    rows = np.array([[19.0, 5], [1, 5], [10, 6], [10, 4]]) * np.sqrt(2)
    center, square = whitening(rows, 0.5)
    np.testing.assert_allclose(center, np.array([10, 5]) * np.sqrt(2))
    deviations = ((rows - center) @ square).std(0)
    np.testing.assert_allclose(deviations, np.sqrt([0.9 * 82, 0.1 * 82]))
    _, square = whitening(rows, 0.5, spread=2.0)
    np.testing.assert_allclose(((rows - center) @ square).std(0), np.sqrt([0.9 * 8, 0.1 * 8]))


def test_directions_without_variation_come_out_as_nothing() -> None:
    """Later rows may vary in such directions, and a small divisor would blow that up."""
    rows = np.random.default_rng(0).normal(size=(5, 8)).astype(np.float32)
    center, square = whitening(rows, 1.0)
    axes = np.linalg.svd(rows - rows.mean(0))[2]
    np.testing.assert_allclose(axes[4:] @ square, 0, atol=1e-6)  # 5 rows span 4 directions
    inside = (rows - center) @ square
    second = inside.T @ inside / 5
    np.testing.assert_allclose(np.linalg.eigvalsh(second)[4:], second.trace() / 4, rtol=1e-5)


def test_whitened_rows_keep_their_spread_and_padding_stays_zero() -> None:
    matrix = np.random.default_rng(0).normal(size=(50, 4)) @ np.diag([5.0, 2, 1, 0.2]) + 3
    matrix = matrix.astype(np.float32)
    matrix[0] = 0
    white = whitened(matrix, 1.0)
    assert not white[0].any()
    centered = matrix[1:] - matrix[1:].mean(0)
    assert np.linalg.norm(white[1:]) == pytest.approx(np.linalg.norm(centered), rel=1e-5)
    np.testing.assert_allclose(white[1:].T @ white[1:], np.eye(4) * (white**2).sum() / 4, atol=1e-2)
    assert whitened(matrix, 0.0) is matrix
    with_gap = np.insert(matrix, 7, 0, axis=0)  # an item without a vector
    np.testing.assert_allclose(whitened(with_gap, 1.0), np.insert(white, 7, 0, axis=0), atol=1e-5)


def test_later_rows_are_whitened_by_the_first_ones_alone() -> None:
    rng = np.random.default_rng(5)
    first, later = rng.normal(size=(2, 30, 4)).astype(np.float32)
    later[3] = 0
    center, square = whitening(first, 0.5)
    found = Whitener(first, 0.5)(later + 7 * (later != 0))
    np.testing.assert_allclose(found[:3], (later[:3] + 7 - center) @ square, rtol=1e-4)
    assert not found[3].any()


def test_rows_of_later_items_are_predicted() -> None:
    """An affine function of the vectors is recovered; rows without a vector do not count."""
    rng = np.random.default_rng(6)
    matrix, later = rng.normal(size=(50, 3)), rng.normal(size=(4, 3))
    slope, constant = rng.normal(size=(3, 5)), rng.normal(size=5)
    table = matrix @ slope + constant
    matrix[::10], table[::10] = 0, 99
    found = expected_rows(table, matrix, later)
    np.testing.assert_allclose(found, later @ slope + constant, rtol=1e-4, atol=1e-4)
    one = expected_rows(table[:11], matrix[:11], later)  # nine items give one component
    assert np.linalg.matrix_rank(one - one.mean(0), tol=1e-4) == 1


def test_another_whitening_is_another_fingerprint() -> None:
    matrix = np.random.default_rng(0).normal(size=(6, 3)).astype(np.float32)
    table = EmbeddingTable(matrix, list("abcdef"), "mine")
    found = [WhitenedEmbedding(table, power).fingerprint for power in (0, 0.5, 1)]
    assert found == [f"mine whitened by {power}" for power in (0, 0.5, 1)]
    assert WhitenedEmbedding(table, 1).alike(table).fingerprint == found[-1]
