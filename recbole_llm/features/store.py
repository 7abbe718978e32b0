"""Vectors by the content they stand for, in one SQLite file that any number of processes share.

A row's key is a hash of the encoder's fingerprint, the stored precision and the text. A batch is
one transaction in write-ahead mode: a process killed at any moment loses its last batch at most.
"""

from __future__ import annotations

import hashlib
import os
import sqlite3
import time
import zlib
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from recbole_llm.features.settings import choice, text
from recbole_llm.features.table import Matrix

FILE_NAME = "embeddings.sqlite"
DTYPES = ("float32", "float16")
_VERSION = 1
_KEYS_PER_QUERY = 500  # below SQLite's limit of 999 variables
_BUSY_SECONDS = 60.0
_OPEN_TRIES = 50


class StoreError(ValueError):
    """The embedding cache cannot be used."""


def cache_dir(config: object) -> Path:
    """`embedding_cache_dir`, else the variable RECBOLE_LLM_CACHE, else a folder in ~/.cache."""
    configured = text(config, "embedding_cache_dir") or os.environ.get("RECBOLE_LLM_CACHE")
    return Path(configured or "~/.cache/recbole_llm").expanduser()


class EmbeddingStore:
    """The file of a cache folder, open.

    Args:
        folder: made if it is not there.
        dtype: precision of new vectors, float32 or float16; of either, only its own are seen.

    Raises:
        StoreError: the folder cannot be written, or the file is damaged.
    """

    def __init__(self, folder: str | Path, dtype: str = "float32") -> None:
        self.path = Path(folder) / FILE_NAME
        self.dtype = np.dtype(dtype)
        self._make_folder()
        self._connection = self._open()

    @classmethod
    def from_config(cls, config: object) -> EmbeddingStore:
        """The store of `embedding_cache_dir` with `embedding_store_dtype`."""
        return cls(cache_dir(config), choice(config, "embedding_store_dtype", DTYPES))

    def close(self) -> None:
        """Release the file."""
        self._connection.close()

    def __len__(self) -> int:
        with self._guarded():
            total: int = self._connection.execute("SELECT count(*) FROM vectors").fetchone()[0]
        return total

    def keys(self, fingerprint: str, texts: Iterable[str]) -> list[bytes]:
        """One 20-byte key per text."""
        base = hashlib.blake2b(f"{fingerprint}\0{self.dtype.name}\0".encode(), digest_size=20)
        keys = []
        for content in texts:
            own = base.copy()
            own.update(content.encode("utf-8", "surrogatepass"))
            keys.append(own.digest())
        return keys

    def present(self, keys: Sequence[bytes]) -> set[bytes]:
        """Those of the keys that have a vector."""
        return {row[0] for row in self._select("key", keys)}

    def add(self, keys: Sequence[bytes], vectors: Matrix) -> None:
        """Store a batch [len(keys), D] at once, or nothing of it; keys that are there stay.

        Raises:
            StoreError: the disk is full, the file is locked too long or damaged.
        """
        blobs = [row.tobytes() for row in np.asarray(vectors, self.dtype)]
        rows = [(k, zlib.crc32(b), b) for k, b in zip(keys, blobs, strict=True)]
        with self._guarded(), self._transaction():
            self._connection.executemany("INSERT OR IGNORE INTO vectors VALUES (?, ?, ?)", rows)

    def load(self, keys: Sequence[bytes]) -> Matrix:
        """The vectors of keys that are all there, float32 [len(keys), D], in their order.

        Raises:
            StoreError: a key is not there, or a vector is damaged.
        """
        position = {key: row for row, key in enumerate(keys)}
        out: Matrix | None = None
        found = 0
        for key, check, blob in self._select("key, crc, vector", keys):
            width = len(blob) // self.dtype.itemsize
            if zlib.crc32(blob) != check or (out is not None and width != out.shape[1]):
                raise self._damaged("a vector does not match its checksum")
            if out is None:
                out = np.empty((len(keys), width), np.float32)
            out[position[key]] = np.frombuffer(blob, self.dtype)
            found += 1
        if found != len(keys):
            raise StoreError(f"embedding cache '{self.path}' lacks {len(keys) - found} vectors")
        return np.zeros((0, 0), np.float32) if out is None else out

    def _select(self, columns: str, keys: Sequence[bytes]) -> Iterator[tuple[bytes, int, bytes]]:
        for start in range(0, len(keys), _KEYS_PER_QUERY):
            part = keys[start : start + _KEYS_PER_QUERY]
            marks = ",".join("?" * len(part))
            with self._guarded():
                rows = self._connection.execute(
                    f"SELECT {columns} FROM vectors WHERE key IN ({marks})", part
                ).fetchall()
            yield from rows

    def _make_folder(self) -> None:
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise self._unwritable(error) from error
        if not os.access(self.path.parent, os.W_OK | os.X_OK):
            raise self._unwritable("permission denied")

    def _open(self) -> sqlite3.Connection:
        with self._guarded():
            for attempt in range(_OPEN_TRIES):
                connection = sqlite3.connect(self.path, _BUSY_SECONDS, isolation_level=None)
                try:
                    self._prepare(connection)
                    return connection
                except sqlite3.OperationalError as error:
                    connection.close()
                    # The switch to write-ahead mode does not wait for another process's.
                    if "locked" not in str(error) or attempt == _OPEN_TRIES - 1:
                        raise
                    time.sleep(0.1)
        raise AssertionError("unreachable")

    def _prepare(self, connection: sqlite3.Connection) -> None:
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA synchronous=NORMAL")
        version = connection.execute("PRAGMA user_version").fetchone()[0]
        if version not in (0, _VERSION):
            raise StoreError(
                f"embedding cache '{self.path}' has format {version}, this version reads "
                f"{_VERSION}; set embedding_cache_dir to another folder"
            )
        connection.execute("BEGIN IMMEDIATE")  # fails here, not after encoding, if read-only
        connection.execute(
            "CREATE TABLE IF NOT EXISTS vectors "
            "(key BLOB PRIMARY KEY, crc INTEGER NOT NULL, vector BLOB NOT NULL)"
        )
        connection.execute(f"PRAGMA user_version={_VERSION}")
        connection.execute("COMMIT")

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        self._connection.execute("BEGIN IMMEDIATE")
        try:
            yield
        except BaseException:
            self._connection.execute("ROLLBACK")
            raise
        self._connection.execute("COMMIT")

    @contextmanager
    def _guarded(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.ProgrammingError:  # a fault of the caller's, not of the file
            raise
        except sqlite3.OperationalError as error:
            if "locked" in str(error):
                raise StoreError(
                    f"embedding cache '{self.path}' stayed locked by another process for "
                    f"{_BUSY_SECONDS:.0f} s; end it, or set embedding_cache_dir"
                ) from error
            raise self._unwritable(error) from error
        except sqlite3.DatabaseError as error:
            raise self._damaged(error) from error

    def _unwritable(self, reason: object) -> StoreError:
        return StoreError(
            f"embedding cache '{self.path}' cannot be written ({reason}); set embedding_cache_dir "
            f"or the environment variable RECBOLE_LLM_CACHE to a folder that can"
        )

    def _damaged(self, reason: object) -> StoreError:
        return StoreError(
            f"embedding cache '{self.path}' is damaged ({reason}); delete the file (its vectors "
            f"are encoded again), or set embedding_cache_dir to another folder"
        )
