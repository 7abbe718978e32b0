"""A matrix whose rows are named: what every source of embeddings produces."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from recbole_llm.core.digest import digest
from recbole_llm.core.errors import first_names
from recbole_llm.core.lines import plural

Matrix = npt.NDArray[np.float32]


class TableError(ValueError):
    """An embedding table that cannot be used as it is."""


@dataclass(frozen=True, eq=False)
class EmbeddingTable:
    """Vectors by name.

    Raises:
        TableError: not a matrix, not float32, another number of names, duplicated names, no
            fingerprint.
    """

    matrix: Matrix  # float32 [n, D]
    tokens: Sequence[str]  # one per row, a token in RecBole's sense: the id as the files write it
    fingerprint: str  # changes whenever a vector could change
    source: str = ""  # fingerprint of what makes the vectors, not of its inputs; "" if unknown
    # int64 [n], a short digest of what each vector was made from; None: digests of the vectors
    contents: npt.NDArray[np.int64] | None = None

    def __post_init__(self) -> None:
        if self.matrix.ndim != 2 or self.matrix.dtype != np.float32:
            raise TableError(
                f"an embedding table needs a float32 matrix [n, D], got {self.matrix.dtype} "
                f"of shape {self.matrix.shape}"
            )
        if len(self.tokens) != len(self.matrix):
            raise TableError(
                f"an embedding table has {len(self.matrix)} rows but {len(self.tokens)} tokens"
            )
        if not isinstance(self.fingerprint, str) or not self.fingerprint:
            raise TableError(
                f"an embedding table needs a fingerprint, a text that changes with its vectors, "
                f"got {self.fingerprint!r}"
            )
        twice = [token for token, times in Counter(self.tokens).items() if times > 1]
        if twice:
            raise TableError(
                f"{plural(len(twice), 'token')} with more than one row: {first_names(twice)}; "
                f"keep one row per token"
            )

    def __len__(self) -> int:
        return len(self.matrix)

    @property
    def dimension(self) -> int:
        """D, the width of a vector."""
        return int(self.matrix.shape[1])

    @classmethod
    def build(cls, matrix: object, tokens: Iterable[Any], fingerprint: str = "") -> EmbeddingTable:
        """A table from any float array and any tokens, which become float32 and str; the default
        fingerprint is a digest of both.

        Raises:
            TableError: an array of another kind, or what the constructor refuses.
        """
        array = np.asarray(matrix)
        if array.dtype.kind not in "fiu":
            raise TableError(f"embedding vectors must be numbers, got dtype {array.dtype}")
        if array.ndim == 2 and not array.shape[1]:
            raise TableError("its vectors have no numbers")
        rows, names = array.astype(np.float32, copy=False), [str(t) for t in tokens]
        own = fingerprint or digest(
            names, hashlib.sha256(np.ascontiguousarray(rows).data).hexdigest()
        )
        return cls(rows, names, own)


def has_vector(matrix: npt.NDArray[Any]) -> npt.NDArray[np.bool_]:
    """Mask of the rows that are vectors, not zeros: [n, D] -> [n]."""
    return np.any(matrix, axis=1)
