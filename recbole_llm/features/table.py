"""A matrix whose rows are named: what every source of embeddings produces."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

_SHOWN = 5  # names listed in a message

Matrix = npt.NDArray[np.float32]


class TableError(ValueError):
    """An embedding table that cannot be used as it is."""


def first_names(names: Iterable[object]) -> str:
    """``'a', 'b', 'c', 'd', 'e', …`` for messages."""
    shown = [f"'{name}'" for name in islice(names, _SHOWN + 1)]
    return ", ".join([*shown[:_SHOWN], "…"] if len(shown) > _SHOWN else shown)


@dataclass(frozen=True, eq=False)
class EmbeddingTable:
    """Vectors by name.

    Args:
        matrix: float32 [n, D].
        tokens: a name a row, in RecBole's sense of token: the ids as the files write them.
        fingerprint: changes whenever a vector could change.

    Raises:
        TableError: not a matrix, not float32, another number of names, duplicated names.
    """

    matrix: Matrix
    tokens: Sequence[str]
    fingerprint: str

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
        twice = [token for token, times in Counter(self.tokens).items() if times > 1]
        if twice:
            raise TableError(
                f"{len(twice)} tokens have more than one row: {first_names(twice)}; "
                f"keep one row a token"
            )

    def __len__(self) -> int:
        return len(self.matrix)

    @property
    def dimension(self) -> int:
        """D, the width of a vector."""
        return int(self.matrix.shape[1])

    @classmethod
    def build(cls, matrix: Any, tokens: Iterable[Any], fingerprint: str = "") -> EmbeddingTable:
        """A table from any float array and any tokens, which become float32 and str.

        Raises:
            TableError: an array of another kind, or what the constructor refuses.
        """
        array = np.asarray(matrix)
        if array.dtype.kind != "f":
            raise TableError(
                f"embedding vectors must be floating-point numbers, got dtype {array.dtype}"
            )
        return cls(array.astype(np.float32, copy=False), [str(t) for t in tokens], fingerprint)

    def save(self, path: str | Path) -> None:
        """Write to ``.npz``, ``.safetensors``, or ``.npy`` with a ``.tokens`` file beside it."""
        from recbole_llm.features.table_io import write_table

        write_table(self, Path(path))

    @classmethod
    def load(cls, path: str | Path) -> EmbeddingTable:
        """Read what :meth:`save` wrote; ``.npy`` is memory-mapped."""
        from recbole_llm.features.table_io import read_table

        return read_table(Path(path))
