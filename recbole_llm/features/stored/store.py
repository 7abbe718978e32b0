"""One SQLite file that any number of processes share: connection, transactions, locks.

``vectors`` and ``generated_texts`` define its tables. A row's key is a hash of everything that its
content depends on. A batch is one transaction in write-ahead mode: a process that is killed at any
moment loses at most its last batch.
"""

from __future__ import annotations

import os
import sqlite3
import time
import zlib
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from hashlib import blake2b
from logging import getLogger
from pathlib import Path
from typing import Any, ClassVar

from recbole_llm.core.files import expanded
from recbole_llm.core.settings import ConfigLike
from recbole_llm.features.settings import StoreSettings

FILE_NAME = "embeddings.sqlite"
_VERSION = 1
_KEYS_PER_QUERY = 500  # below SQLite's limit of 999 variables
_BUSY_SECONDS = 60.0  # that an operation waits for a lock of another process
_SLICE_SECONDS = 2.0  # that SQLite itself waits for a lock


class StoreError(ValueError):
    """The cache cannot be used."""


def cache_dir(config: ConfigLike) -> Path:
    """`embedding_cache_dir`, else the variable RECBOLE_LLM_CACHE, else a folder in ~/.cache."""
    configured = StoreSettings.of(config).embedding_cache_dir
    given = configured or os.environ.get("RECBOLE_LLM_CACHE")
    return expanded(given or "~/.cache/recbole_llm")


class Store:
    """An open table of a cache folder's file; subclasses define what its rows hold.

    The folder is created if it does not exist. A file in a folder that cannot be written, such as a
    shared one, is only read.

    Raises:
        StoreError: there is no file and the folder cannot be written, or the file is damaged.
    """

    table: ClassVar[str]
    column: ClassVar[str]

    def __init__(self, folder: str | Path) -> None:
        self.path = Path(folder) / FILE_NAME
        self.read_only = self._is_read_only()
        if not self.read_only:
            self._make_folder()
        self._open()

    def close(self) -> None:
        """Release the file."""
        self._connection.close()

    def __len__(self) -> int:
        with self._translate_errors():
            ((total,),) = self._execute(f"SELECT count(*) FROM {self.table}")
        return int(total)

    def present(self, keys: Sequence[bytes]) -> set[bytes]:
        """Those of the keys that have a row."""
        return {row[0] for row in self._select("key", keys)}

    def require_writable(self) -> None:
        """Raise StoreError if rows cannot be added."""
        if self.read_only:
            raise self._unwritable("permission denied")

    def _insert(self, keys: Sequence[bytes], contents: Sequence[bytes]) -> None:
        """Store a batch in one transaction; existing keys keep their contents."""
        if not keys:
            return
        self.require_writable()
        rows = [(k, zlib.crc32(c), c) for k, c in zip(keys, contents, strict=True)]
        insert = f"INSERT OR IGNORE INTO {self.table} VALUES (?,?,?)"
        with self._translate_errors(), self._connection:  # commits, or rolls back
            self._execute("BEGIN IMMEDIATE")  # an interrupt that comes with its end rolls back, too
            self._connection.executemany(insert, rows)

    def _contents(self, keys: Sequence[bytes]) -> Iterator[tuple[bytes, bytes]]:
        """(key, content) of those keys that are stored, in any order."""
        for key, check, content in self._select(f"key, crc, {self.column}", keys):
            if not isinstance(content, bytes) or zlib.crc32(content) != check:
                raise self._damaged("a row does not match its checksum")
            yield key, content

    def _select(self, columns: str, keys: Sequence[bytes]) -> Iterator[tuple[bytes, int, bytes]]:
        for start in range(0, len(keys), _KEYS_PER_QUERY):
            part = keys[start : start + _KEYS_PER_QUERY]
            marks = ",".join("?" * len(part))
            query = f"SELECT {columns} FROM {self.table} WHERE key IN ({marks})"
            with self._translate_errors():
                rows = self._execute(query, part)
            yield from rows

    def _is_read_only(self) -> bool:
        """Whether the folder is read-only but its file is complete, without a write-ahead log."""
        log = self.path.with_name(f"{FILE_NAME}-wal")
        return self.path.is_file() and not _can_write(self.path.parent) and not log.exists()

    def _make_folder(self) -> None:
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise self._unwritable(error) from error
        if not _can_write(self.path.parent):
            raise self._unwritable("permission denied")

    def _open(self) -> None:
        with self._translate_errors():
            # SQLite cannot create lock files here, and needs none for an immutable file.
            query = "?immutable=1" if self.read_only else ""
            self._connection = sqlite3.connect(
                f"{self.path.absolute().as_uri()}{query}",
                min(_SLICE_SECONDS, _BUSY_SECONDS),
                isolation_level=None,
                uri=True,
            )
            try:
                self._prepare()
            except BaseException:
                self.close()
                raise

    def _prepare(self) -> None:
        self._execute("PRAGMA trusted_schema=OFF")  # the file's schema runs no functions
        ((version,),) = self._execute("PRAGMA user_version")
        if version not in (0, _VERSION):
            raise StoreError(
                f"embedding cache '{self.path}' has format {version}, this version reads "
                f"{_VERSION}; set embedding_cache_dir to another folder"
            )
        if not self.read_only:
            self._create()
        self._check_schema()

    def _create(self) -> None:
        """Create the table, so that a read-only file fails here, not after encoding."""
        self._execute("PRAGMA journal_mode=WAL")
        self._execute("PRAGMA synchronous=NORMAL")
        self._execute("BEGIN IMMEDIATE")
        self._execute(
            f"CREATE TABLE IF NOT EXISTS {self.table} "
            f"(key BLOB PRIMARY KEY, crc INTEGER NOT NULL, {self.column} BLOB NOT NULL)"
        )
        self._execute(f"PRAGMA user_version={_VERSION}")
        self._execute("COMMIT")

    def _check_schema(self) -> None:
        """Refuse a foreign file, which may hold a view or triggers under these names."""
        columns = [row[1] for row in self._execute(f"PRAGMA table_info({self.table})")]
        if not columns:
            self.require_writable()
        foreign = self._execute("SELECT name FROM sqlite_master WHERE type IN ('view', 'trigger')")
        if foreign or columns != ["key", "crc", self.column]:
            raise self._damaged("its tables are not this package's")

    def _execute(self, query: str, values: Sequence[bytes] = ()) -> list[Any]:
        """A query's rows, once no other process holds the lock; a long wait is logged."""
        begin, said = time.monotonic(), False
        while True:
            start = time.monotonic()
            try:
                return self._connection.execute(query, values).fetchall()
            except sqlite3.OperationalError as error:
                if not _is_locked(error) or time.monotonic() - begin >= _BUSY_SECONDS:
                    raise
            if not said and time.monotonic() - begin >= 1:
                said = True
                getLogger("recbole_llm").info(
                    f"embedding cache '{self.path}' is locked by another process; waiting up to "
                    f"{_BUSY_SECONDS:.0f} s"
                )
            # SQLite itself waits for locks, but not on the switch to write-ahead mode.
            time.sleep(max(0.0, min(0.1, start + 0.1 - time.monotonic())))

    @contextmanager
    def _translate_errors(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.ProgrammingError:  # the caller's fault, not the file's
            raise
        except sqlite3.OperationalError as error:
            if _is_locked(error):
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
            f"or the environment variable RECBOLE_LLM_CACHE to a writable folder"
        )

    def _damaged(self, reason: object) -> StoreError:
        return StoreError(
            f"embedding cache '{self.path}' is damaged ({reason}); delete the file (what it holds "
            f"is made again), or set embedding_cache_dir to another folder"
        )


def _can_write(folder: Path) -> bool:
    return os.access(folder, os.W_OK | os.X_OK)


def content_keys(base: str, contents: Iterable[str]) -> list[bytes]:
    """One 20-byte key per content; `base` is what all of them also depend on."""
    start = blake2b(base.encode("utf-8", "surrogatepass"), digest_size=20)
    keys = []
    for content in contents:
        own = start.copy()
        own.update(content.encode("utf-8", "surrogatepass"))
        keys.append(own.digest())
    return keys


def _is_locked(error: sqlite3.OperationalError) -> bool:
    return "locked" in str(error) or "busy" in str(error)
