"""A store of vectors, keyed by the texts that they represent."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from recbole_llm.core.lines import plural
from recbole_llm.core.settings import ConfigLike
from recbole_llm.features.settings import StoreSettings
from recbole_llm.features.stored.store import Store, StoreError, cache_dir, content_keys
from recbole_llm.features.tables.table import Matrix


class EmbeddingStore(Store):
    """The vectors of a cache folder that have the precision `dtype`, float32 or float16; those of
    the other precision are ignored."""

    table, column = "vectors", "vector"

    def __init__(self, folder: str | Path, dtype: str = "float32") -> None:
        self.dtype = np.dtype(dtype)
        super().__init__(folder)

    @classmethod
    def from_config(cls, config: ConfigLike) -> EmbeddingStore:
        """The store of `embedding_cache_dir` with `embedding_store_dtype`."""
        return cls(cache_dir(config), StoreSettings.of(config).embedding_store_dtype)

    def keys(self, fingerprint: str, texts: Iterable[str]) -> list[bytes]:
        """One 20-byte key per text, for the encoder with this fingerprint."""
        return content_keys(f"{fingerprint}\0{self.dtype.name}\0", texts)

    def usable(self, vectors: Matrix) -> npt.NDArray[np.bool_]:
        """Mask [n] of the vectors [n, D] that are finite in this precision and not all zeros."""
        with np.errstate(over="ignore", invalid="ignore"):
            stored = np.asarray(vectors, self.dtype)
        return np.isfinite(stored).all(axis=1) & stored.any(axis=1)

    def add(self, keys: Sequence[bytes], vectors: Matrix) -> None:
        """Store a batch [len(keys), D] of `usable` vectors in one transaction; existing keys keep
        their vectors.

        Raises:
            StoreError: the disk is full, the file is locked too long or damaged.
        """
        self._insert(keys, [row.tobytes() for row in np.asarray(vectors, self.dtype)])

    def width(self, keys: Sequence[bytes]) -> int | None:
        """D, the width of the first key's vector; None if there is none."""
        found = next(self._contents(keys[:1]), None)
        return None if found is None else len(found[1]) // self.dtype.itemsize

    def load(self, keys: Sequence[bytes]) -> Matrix:
        """The vectors of the keys, float32 [len(keys), D], in the order of the keys.

        Raises:
            StoreError: a key is missing, vectors differ in width, or the file is damaged.
        """
        position = {key: row for row, key in enumerate(keys)}
        out: Matrix | None = None
        found = 0
        for key, content in self._contents(keys):
            width, rest = divmod(len(content), self.dtype.itemsize)
            if rest or not width:
                raise self._damaged("a vector has no whole number of values")
            if out is None:
                out = np.empty((len(keys), width), np.float32)
            if width != out.shape[1]:
                raise StoreError(
                    f"embedding cache '{self.path}' holds vectors of {width} and of {out.shape[1]} "
                    f"numbers from the same encoder, so the model behind its name has changed; set "
                    f"embedding_cache_dir to another folder"
                )
            out[position[key]] = np.frombuffer(content, self.dtype)
            found += 1
        if found != len(keys):
            lacking = plural(len(keys) - found, "vector")
            raise StoreError(f"embedding cache '{self.path}' lacks {lacking}")
        return np.zeros((0, 0), np.float32) if out is None else out
