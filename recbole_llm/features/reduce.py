"""Principal components of item vectors, and whitening along them.

A row of zeros is no vector: it is the padding item, or an item without one under
``missing_embedding: zeros``. Such rows are left out of every mean, component and spread here, or
the strongest component would say which items have a vector. They stay zero, which is the mean.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

Rows = npt.NDArray[np.floating[Any]]
Float64 = npt.NDArray[np.float64]

_FLOOR = 1e-6  # smallest eigenvalue kept apart from zero, as a share of the largest


class Components(NamedTuple):
    """Principal components of a matrix [n, D], by falling variance."""

    mean: Float64  # [D]
    axes: Float64  # [D, k]; each axis's largest loading is positive
    coordinates: npt.NDArray[np.float32]  # (row - mean) axes, [n, k]; zero rows stay zero
    real: npt.NDArray[np.bool_]  # whether a row is a vector, [n]

    def spread(self, width: int | None = None) -> float:
        """Standard deviation of the vectors' coordinates, on the first `width` axes or all."""
        return float(self.coordinates[self.real, :width].std(ddof=1))


def has_vector(matrix: Rows) -> npt.NDArray[np.bool_]:
    """Which rows are vectors, not zeros: [n, D] -> [n]."""
    found: npt.NDArray[np.bool_] = np.count_nonzero(matrix, axis=1) > 0
    return found


def pca(matrix: Rows, dim: int | None = None) -> Components:
    """Principal components of the rows that are vectors.

    Args:
        matrix: [n, D].
        dim: components to keep, if there are so many: min(vectors, D); None: all.

    Raises:
        ValueError: fewer than two rows are vectors.
    """
    from sklearn.decomposition import PCA

    real = has_vector(matrix)
    rows = matrix[real].astype(np.float64)
    if len(rows) < 2:
        raise ValueError(f"principal components need two item vectors or more, got {len(rows)}")
    mean = rows.mean(axis=0)
    rows -= mean
    k = min(dim or len(rows), *rows.shape)
    axes = PCA(k, svd_solver="covariance_eigh").fit(rows).components_.T
    coordinates = np.zeros((len(matrix), k), np.float32)
    coordinates[real] = rows @ axes
    return Components(mean, axes, coordinates, real)


def whitening(
    matrix: Rows, power: float, *, centred: bool = True, spread: float | None = None
) -> tuple[Float64, Float64]:
    """Center [D] and symmetric M [D, D] such that (x - center) M has more even directions.

    The principal axes stay; standard deviations s along them become c s^(1 - power).

    Args:
        matrix: [n, D].
        power: 0 changes nothing but center and scale, 1 makes all directions equally strong.
        centred: whether the center is the mean, else 0 (and s root mean squares).
        spread: root mean square entry of the result, which sets c; None: as before.

    Raises:
        ValueError: the vectors do not vary.
    """
    rows = matrix[has_vector(matrix)].astype(np.float64)
    if not len(rows):
        raise ValueError("no item has a vector; check item_prompt and encoder")
    center = rows.mean(0) if centred else np.zeros(rows.shape[1])
    second = (rows - center).T @ (rows - center) / len(rows)
    values, axes = np.linalg.eigh(second)
    if not values[-1] > 0:
        raise ValueError("all item vectors are the same; check item_prompt and encoder")
    square = axes * np.maximum(values, _FLOOR * values[-1]) ** (-power / 2) @ axes.T
    before, after = (np.sqrt(np.trace(m) / len(m)) for m in (second, square @ second @ square))
    return center, square * ((before if spread is None else spread) / after)


def whitened(matrix: npt.NDArray[np.float32], power: float) -> npt.NDArray[np.float32]:
    """The rows after `whitening`, as long on average as they were about their mean.

    Args:
        matrix: [n, D].
        power: 0 gives the matrix itself, mean and all.

    Returns:
        [n, D]; zero rows stay zero.
    """
    if power == 0:
        return matrix
    center, square = (part.astype(np.float32) for part in whitening(matrix, power))
    real = has_vector(matrix)
    rows = np.zeros_like(matrix)
    rows[real] = (matrix[real] - center) @ square
    return rows
