"""Nearest neighbors among text vectors."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.floating[Any]]
IntArray = npt.NDArray[np.int32]

EXACT_UP_TO = 100_000  # rows; above, an inverted-file index: exact search is O(n^2)
BLOCK = 4096  # queries at once
NONE = -1  # in place of a neighbor that does not exist


def nearest_neighbors(
    vectors: FloatArray, k: int, candidates: npt.NDArray[np.bool_] | None = None
) -> IntArray:
    """The k rows with the highest cosine to each row, the row itself excluded.

    Memory beyond the vectors and one normalized copy is O(n k): queries go in blocks. Results
    are the same on every run. Above `EXACT_UP_TO` candidates the search is approximate: each
    query looks into the `PROBES` nearest of about 4 sqrt(n) clusters, which is feasible for
    millions of rows.

    Args:
        vectors: float [n, D].
        k: neighbors per row.
        candidates: bool [n], the rows that have and may be neighbors; None: all. Rows of
            zeros have no direction and never take part.

    Returns:
        Row numbers int32 [n, k], nearest first; -1 if there is none (rows that are no
        candidates, and every row's end when there are k candidates or fewer).

    Raises:
        ValueError: vectors that are not finite.
    """
    if not np.isfinite(vectors).all():
        raise ValueError(f"nearest_neighbors needs a finite matrix [n, D], got {vectors.shape}")
    norms = np.linalg.norm(vectors, axis=1)
    taking_part = norms > 0 if candidates is None else (norms > 0) & candidates
    rows = np.flatnonzero(taking_part)
    neighbors: IntArray = np.full((len(vectors), k), NONE, dtype=np.int32)
    width = min(k, len(rows) - 1)
    if width < 1:
        return neighbors
    units = np.ascontiguousarray(vectors[rows] / norms[rows, None], dtype=np.float32)
    index = _build_index(units, exact=len(rows) <= EXACT_UP_TO)
    for start in range(0, len(rows), BLOCK):
        queries = np.arange(start, min(start + BLOCK, len(rows)))
        _, nearest = index.search(units[queries], width + 1)  # int64 [B, width + 1]
        others = _drop_self(nearest, queries)
        neighbors[rows[queries], :width] = np.where(others >= 0, rows[others], NONE)
    return neighbors


PROBES = 32
TRAINING_ROWS_A_CLUSTER = 64


def _build_index(units: npt.NDArray[np.float32], exact: bool) -> Any:
    """A faiss inner-product index that holds `units`."""
    import faiss

    n, dimension = units.shape
    flat = faiss.IndexFlatIP(dimension)
    if exact:
        flat.add(units)
        return flat
    clusters = min(4 * math.isqrt(n), n)
    index = faiss.IndexIVFFlat(flat, dimension, clusters, faiss.METRIC_INNER_PRODUCT)
    index.nprobe = min(PROBES, clusters)
    step = max(1, n // (TRAINING_ROWS_A_CLUSTER * clusters))
    index.train(np.ascontiguousarray(units[::step]))
    index.add(units)
    return index


def _drop_self(nearest: npt.NDArray[np.int64], queries: npt.NDArray[Any]) -> Any:
    """Drop each query from its own results [B, width + 1], or else the last result: [B, width]."""
    own = nearest == queries[:, None]
    # Behind more than `width` identical vectors a query may be missing from its own results.
    own[~own.any(axis=1), -1] = True
    return nearest[~own].reshape(len(queries), -1)
