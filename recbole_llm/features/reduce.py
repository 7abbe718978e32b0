"""Principal components of an embedding matrix, and whitening along them."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

_FLOOR = 1e-6  # smallest eigenvalue kept apart from zero, as a share of the largest


def pca(matrix: Any, dim: int, skip_row0: bool = True) -> npt.NDArray[np.float32]:
    """Coordinates of the rows on their first principal components.

    Args:
        matrix: float [n, D].
        dim: components to keep, at most min(n, D).
        skip_row0: row 0 is padding: left out of the mean and the components, and zero after.

    Returns:
        float32 [n, dim]; the columns are centred and by falling variance.

    Raises:
        ValueError: `dim` is out of range.
    """
    rows = np.asarray(matrix, np.float64)
    real = rows[1:] if skip_row0 else rows
    mean, axes = principal_axes(matrix, dim, skip_row0)
    out = np.zeros((len(rows), dim), np.float32)
    out[len(rows) - len(real) :] = (real - mean) @ axes
    return out


def principal_axes(
    matrix: Any, dim: int, skip_row0: bool = True
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Mean [D] and first principal axes [D, dim] of the rows; arguments as of :func:`pca`.

    Exact: eigenvectors of the float64 covariance [D, D]. An axis's sign is the one that makes
    its largest loading positive, so that the result does not depend on the LAPACK at hand.
    """
    rows = np.asarray(matrix, np.float64)
    real = rows[1:] if skip_row0 else rows
    limit = min(real.shape)
    if not 1 <= dim <= limit:
        raise ValueError(
            f"PCA to {dim} dimensions of {real.shape[0]} vectors of width {real.shape[1]}: "
            f"at most {limit} are possible"
        )
    mean = real.mean(axis=0)
    centred = real - mean
    _, vectors = np.linalg.eigh(centred.T @ centred)  # ascending
    axes = vectors[:, ::-1][:, :dim]  # [D, dim]
    largest = np.abs(axes).argmax(axis=0)
    return mean, axes * np.sign(axes[largest, np.arange(dim)])


def whitening(
    rows: Any, power: float, *, centred: bool = True, spread: float | None = None
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Center [D] and symmetric M [D, D] such that (x - center) M has more even directions.

    The principal axes stay; standard deviations s along them become c s^(1 - power).

    Args:
        rows: float [n, D].
        power: 0 changes nothing but center and scale, 1 makes all directions equally strong.
        centred: whether the center is the mean, else 0 (and s root mean squares).
        spread: root mean square entry of the result, which sets c; None: as before.

    Raises:
        ValueError: the rows do not vary.
    """
    rows = np.asarray(rows, np.float64)
    center = rows.mean(0) if centred else np.zeros(rows.shape[1])
    second = (rows - center).T @ (rows - center) / len(rows)
    values, axes = np.linalg.eigh(second)
    if not values[-1] > 0:
        raise ValueError("all item vectors are the same; check item_prompt and encoder")
    square = axes * np.maximum(values, _FLOOR * values[-1]) ** (-power / 2) @ axes.T
    before, after = (np.sqrt(np.trace(m) / len(m)) for m in (second, square @ second @ square))
    return center, square * ((before if spread is None else spread) / after)


def whitened(matrix: Any, power: float) -> Any:
    """The rows after `whitening`, as long on average as they were about their mean.

    Args:
        matrix: float32 [n, D]; zero rows (padding, items without a vector) stay zero.
        power: 0 gives the matrix itself, mean and all.

    Returns:
        float32 [n, D].
    """
    if power == 0:
        return matrix
    real = matrix.any(axis=1)
    center, square = (part.astype(np.float32) for part in whitening(matrix[real], power))
    rows = np.zeros_like(matrix)
    rows[real] = (matrix[real] - center) @ square
    return rows
