"""Principal components of item vectors, and whitening along them.

A row of zeros is no vector: it is the padding item, or an item without one under
``missing_embedding: zeros``. Such rows are left out of every mean, component and spread here;
otherwise the strongest component would show which items have a vector. They stay zero, the mean.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from recbole_llm.core.checkpoints.fingerprints import WHITENED
from recbole_llm.features.tables.table import EmbeddingTable, Matrix, has_vector
from recbole_llm.layers.embedding import FrozenEmbedding

Rows = npt.NDArray[np.floating[Any]]
Float64 = npt.NDArray[np.float64]

_FLOOR = 1e-6  # smallest eigenvalue kept apart from zero, as a share of the largest


class Components(NamedTuple):
    """Principal components of a matrix [n, D], by decreasing variance."""

    mean: Float64  # [D]
    axes: Float64  # [D, k]; each axis's largest loading is positive
    coordinates: Matrix  # (row - mean) axes, [n, k]; zero rows stay zero
    real: npt.NDArray[np.bool_]  # whether a row is a vector, [n]

    def spread(self, width: int | None = None) -> float:
        """Standard deviation of the vectors' coordinates, on the first `width` axes or all."""
        return float(self.coordinates[self.real, :width].std(ddof=1))

    @torch.no_grad()
    def project(self, layer: nn.Linear, scale: float) -> None:
        """Set a layer so that its first outputs are scale * (row - mean) axes; others stay."""
        axes = torch.from_numpy(self.axes[:, : layer.out_features]).float()
        width = axes.shape[1]
        layer.weight[:width] = scale * axes.t()
        layer.bias[:width] = -scale * (torch.from_numpy(self.mean).float() @ axes)


def pca(matrix: Rows, dim: int | None = None) -> Components:
    """Principal components of the rows of a matrix [n, D] that are vectors.

    Args:
        dim: components to keep, at most min(vectors, D); None: all of these.

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
    matrix: Rows, power: float, *, centered: bool = True, spread: float | None = None
) -> tuple[Float64, Float64]:
    """Center [D] and symmetric M [D, D] such that (x - center) M varies more evenly by direction.

    The principal axes stay; standard deviations s along them become c s^(1 - power). Directions in
    which the rows do not vary, which exist if n < D, become 0.

    Args:
        matrix: [n, D].
        power: 0 changes nothing but center and scale, 1 makes all directions equally strong.
        centered: whether the center is the mean; else it is 0, and s are root mean squares.
        spread: root mean square entry of the result, which sets c; None: that of the input.

    Raises:
        ValueError: the vectors do not vary.
    """
    rows = matrix[has_vector(matrix)].astype(np.float64)
    if not len(rows):
        raise ValueError("no item has a vector; check item_prompt and encoder")
    center = rows.mean(0) if centered else np.zeros(rows.shape[1])
    second = (rows - center).T @ (rows - center) / len(rows)
    values, axes = np.linalg.eigh(second)
    if not values[-1] > 0:
        raise ValueError("all item vectors are the same; check item_prompt and encoder")
    filled = values > _FLOOR * values[-1]  # along others, later rows would be noise
    scales = np.where(filled, values, 1.0) ** (-power / 2) * filled
    square = axes * scales @ axes.T
    before, after = (np.sqrt(np.trace(m) / len(m)) for m in (second, square @ second @ square))
    return center, square * ((before if spread is None else spread) / after)


class Whitener:
    """`whitening` by the statistics of one matrix [n, D], for its rows and for later ones.

    On average, output rows are as long as the centered input rows; zero rows stay zero. A power of
    0 leaves rows as they are, without centering them.
    """

    def __init__(self, matrix: Matrix, power: float) -> None:
        self._parts: tuple[Matrix, ...] | None = None
        if power != 0:
            self._parts = tuple(part.astype(np.float32) for part in whitening(matrix, power))

    def __call__(self, matrix: Matrix) -> Matrix:
        """[m, D] -> [m, D]."""
        if self._parts is None:
            return matrix
        center, square = self._parts
        real = has_vector(matrix)
        rows = np.zeros_like(matrix)
        rows[real] = (matrix[real] - center) @ square
        return rows


class WhitenedEmbedding(FrozenEmbedding):
    """A table's vectors after `Whitener`; their statistics also whiten rows that come later."""

    def __init__(self, table: EmbeddingTable, power: float) -> None:
        self.whiten = Whitener(table.matrix, power)
        self._suffix = f"{WHITENED}{power:g}"
        super().__init__(self.whiten(table.matrix), table.fingerprint + self._suffix)

    def alike(self, table: EmbeddingTable) -> FrozenEmbedding:
        """Other vectors, whitened by the statistics of these."""
        return FrozenEmbedding(self.whiten(table.matrix), table.fingerprint + self._suffix)

    def append(self, rows: Tensor) -> None:
        """Add vectors [m, D], whitened by the statistics of the first ones."""
        super().append(torch.from_numpy(self.whiten(rows.cpu().numpy())))


def expected_rows(table: Rows, matrix: Rows, later: Rows) -> Matrix:
    """Predict a trained table's rows of later items from their vectors.

    A least-squares fit, with a constant, maps principal components of the known items' vectors, at
    most one component per ten items, to these items' rows of the table.

    Args:
        table: [n, H].
        matrix: [n, D], vectors of the same items; items without a vector are ignored.
        later: [m, D].

    Returns:
        [m, H].
    """
    real = has_vector(matrix)
    components = pca(matrix, max(1, min(table.shape[1], int(real.sum()) // 10)))
    known = np.insert(components.coordinates[real].astype(np.float64), 0, 1.0, axis=1)
    weights = np.linalg.lstsq(known, table[real].astype(np.float64), rcond=None)[0]
    rows: Float64 = (later - components.mean) @ components.axes @ weights[1:] + weights[0]
    return rows.astype(np.float32)
