"""Principal components of an embedding matrix."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt


def pca(matrix: Any, dim: int, skip_row0: bool = True) -> npt.NDArray[np.float32]:
    """Coordinates of the rows on their first principal components.

    Exact: eigenvectors of the float64 covariance [D, D]. A component's sign is the one that makes
    its largest loading positive, so that the result does not depend on the LAPACK at hand.

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
    limit = min(real.shape)
    if not 1 <= dim <= limit:
        raise ValueError(
            f"PCA to {dim} dimensions of {real.shape[0]} vectors of width {real.shape[1]}: "
            f"at most {limit} are possible"
        )
    centred = real - real.mean(axis=0)
    _, vectors = np.linalg.eigh(centred.T @ centred)  # ascending
    components = vectors[:, ::-1][:, :dim]  # [D, dim]
    largest = np.abs(components).argmax(axis=0)
    components = components * np.sign(components[largest, np.arange(dim)])
    out = np.zeros((len(rows), dim), np.float32)
    out[len(rows) - len(real) :] = centred @ components
    return out
