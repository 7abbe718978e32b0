"""Principal components of an embedding matrix."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt


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
