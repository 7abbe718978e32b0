"""Sorting ``.inter`` files into a `ColumnFolder` by DuckDB, which sorts more than memory holds."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import numpy as np

from recbole_llm.core.checkpoints.tokens import PADDING, encode_names
from recbole_llm.core.errors import one_line, optional_imports
from recbole_llm.core.files import check_folder, folder_written_whole, remove_left_parts
from recbole_llm.data.reading.column_folder import (
    ABOUT,
    COLUMNS,
    PADDING_ROWS,
    ColumnFolder,
    file_sizes,
    folder_origin,
)
from recbole_llm.data.reading.inter_blocks import InteractionFile
from recbole_llm.data.rows.split import positions

if TYPE_CHECKING:
    import pyarrow

_WAY_OUT = "free space there, or set data_path to a writable copy"
_READ = "CREATE TABLE rows (line BIGINT, user VARCHAR, item VARCHAR, time DOUBLE)"
# As in RecBole, tokens are numbered in the order in which they first appear.
_NUMBER = """CREATE TABLE {0}_numbers AS SELECT {0}, row_number() OVER (ORDER BY line) AS number
    FROM (SELECT {0}, min(line) AS line FROM rows GROUP BY {0})"""
_NAMES = "SELECT {0} FROM {0}_numbers ORDER BY number"
# As in the data set in memory, rows of the same time stay in the order of the file.
_SORT = """SELECT user_numbers.number, item_numbers.number, time FROM rows
    JOIN user_numbers USING (user) JOIN item_numbers USING (item)
    ORDER BY user_numbers.number, time, line"""


def sort_on_disk(source: InteractionFile, folder: Path, memory_mib: int) -> ColumnFolder:
    """Write the folder of a file, whole or not at all.

    While it runs, it takes as much disk space again beside the folder. It takes `memory_mib` of
    memory, plus some 0.5 GiB for blocks of rows and the libraries (measured: results/scale.md).

    Args:
        folder: path of the folder; an existing one is replaced.
        memory_mib: memory for sorting.

    Raises:
        ValueError: the file is malformed, a package is missing, or there is too little space.
    """
    with optional_imports("interactions: disk"):
        import duckdb
        import pyarrow  # noqa: F401
    check_folder(folder.parent, _WAY_OUT)
    remove_left_parts(folder.parent)
    with folder_written_whole(folder, _WAY_OUT) as part:
        work = part / "work"
        work.mkdir()
        settings: dict[str, Any] = {
            "memory_limit": f"{memory_mib}MiB",
            "temp_directory": str(work),
            "preserve_insertion_order": False,  # line numbers keep the order
        }
        try:
            with duckdb.connect(str(work / "rows.duckdb"), config=settings) as database:
                _write(database, source, part)
        except duckdb.Error as error:
            raise ValueError(
                f"'{source.path}' cannot be sorted in its folder ({one_line(error)}); free space "
                f"there, or raise sort_memory_mib"
            ) from error
        shutil.rmtree(work)
    found = ColumnFolder.of(folder, source)
    if found is None:
        raise ValueError(f"'{source.path}' changed while it was read; start again")
    return found


def _write(database: Any, source: InteractionFile, folder: Path) -> None:
    digest, state = hashlib.sha256(), source.path.stat()
    count = _read(database, source, digest)
    content = {
        "made_of": folder_origin(source),
        "interactions": count,
        "bytes": state.st_size,
        "changed_ns": state.st_mtime_ns,
        "sha256": digest.hexdigest(),
    }
    names = {name: _write_names(database, name, folder) for name in ("user", "item")}
    _write_rows(database, count, names["user"], folder)
    content["sizes"] = file_sizes(folder)
    (folder / ABOUT).write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


def _read(database: Any, source: InteractionFile, digest: hashlib._Hash) -> int:
    """Read all lines into the table; return their number."""
    import pyarrow

    database.execute(_READ)
    count = 0
    for columns in source.blocks(digest):
        numbers = pyarrow.array(np.arange(count, count + len(columns)))
        database.register("block", columns.add_column(0, "line", numbers))
        database.execute("INSERT INTO rows SELECT * FROM block")
        count += len(columns)
    if not count:
        raise ValueError(f"'{source.path}' has no rows; write one interaction a line")
    return count


def _batches(database: Any, query: str) -> Iterator[pyarrow.RecordBatch]:
    from pyarrow import RecordBatchReader

    yield from filter(len, RecordBatchReader.from_stream(database.sql(query)))


def _write_names(database: Any, name: str, folder: Path) -> int:
    """Number the users or items, and write their names by number; return how many, with padding."""
    database.execute(_NUMBER.format(name))
    texts, lengths = folder / f"{name}_utf8", folder / f"{name}_lengths"
    with texts.open("wb") as text_file, lengths.open("wb") as length_file:
        count = _append_names([PADDING], text_file, length_file)
        for batch in _batches(database, _NAMES.format(name)):
            count += _append_names(batch.column(0).to_pylist(), text_file, length_file)
    return count


def _append_names(names: list[str], texts: IO[bytes], lengths: IO[bytes]) -> int:
    packed = encode_names(names)
    texts.write(packed["utf8"].tobytes())
    lengths.write(packed["lengths"].tobytes())
    return len(names)


def _write_rows(database: Any, count: int, users: int, folder: Path) -> None:
    before = np.zeros(users, np.int64)  # interactions of each user written so far
    with ExitStack() as opened:
        files = {n: opened.enter_context((folder / n).open("wb")) for n in COLUMNS}
        for batch in _batches(database, _SORT):
            user, item, time = (batch.column(i).to_numpy() for i in range(3))
            values = (user, item, time, time, positions(user, before))
            for (name, kind), column in zip(COLUMNS.items(), values, strict=True):
                files[name].write(column.astype(kind).tobytes())
        for name, kind in COLUMNS.items():
            files[name].truncate((count + PADDING_ROWS) * kind.itemsize)
    np.cumsum(np.r_[0, before]).tofile(folder / "starts")
