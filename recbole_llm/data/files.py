"""Reading atomic files: every value as it is written, every line accounted for."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from recbole_llm.data.check import check_counts, check_quotes, decoded, header_types
from recbole_llm.data.split import IntArray

ObjectArray = npt.NDArray[np.object_]


@dataclass(frozen=True)
class Table:
    """A file's columns.

    Args:
        path: the file.
        types: {field: token, token_seq, float or float_seq}, in the file's order.
        columns: {field: values as strings, object [N]}.
        lines: number of the line that each record begins in, int64 [N].
    """

    path: Path
    types: dict[str, str]
    columns: dict[str, ObjectArray]
    lines: IntArray

    @classmethod
    def read(cls, path: Path, separator: str = "\t", encoding: str = "utf-8") -> Table:
        """Read a file; quoting is that of CSV files.

        Raises:
            ValueError: see `recbole_llm.data.check`.
        """
        text = decoded(path, path.read_bytes(), encoding)
        first, _, body = text.partition("\n")
        types = header_types(path, first, separator)
        quoted = '"' in body and len(separator) == 1  # as pandas: no quotes beside longer ones
        records = _quoted(path, body, separator) if quoted else _plain(body, separator)
        lines, counts, flat = records
        check_counts(path, counts, lines, len(types))
        values = np.array(flat, dtype=object).reshape(-1, len(types))
        return cls(path, types, {f: values[:, i] for i, f in enumerate(types)}, lines)


def read_types(path: Path, separator: str = "\t", encoding: str = "utf-8") -> dict[str, str]:
    """``{field: type}`` of a file's header; ValueError as of `Table.read`."""
    with path.open("rb") as file:
        start = file.read(2**16)  # the end may cut a character, or a line, in two
    wide = encoding.lower().startswith(("utf-16", "utf-32"))
    end = len(start) if wide else start.find(b"\n") + 1 or len(start)
    first = decoded(path, start[:end], encoding).partition("\n")[0]
    return header_types(path, first, separator)


def _plain(body: str, separator: str) -> tuple[IntArray, IntArray, list[str]]:
    """Lines and numbers of values of the records [N], and all values one after another."""
    rows = body.split("\n")
    lines = np.array([i for i, row in enumerate(rows, start=2) if row], dtype=np.int64)
    rows = [row for row in rows if row]
    counts = np.array([row.count(separator) + 1 for row in rows], dtype=np.int64)
    return lines, counts, separator.join(rows).split(separator) if rows else []


def _quoted(path: Path, body: str, separator: str) -> tuple[IntArray, IntArray, list[str]]:
    lines, counts, flat = [], [], []
    for line, record in _records(path, body, separator):
        lines.append(line)
        counts.append(len(record))
        flat += record
    return np.array(lines, dtype=np.int64), np.array(counts, dtype=np.int64), flat


def _records(path: Path, body: str, separator: str) -> Iterator[tuple[int, list[str]]]:
    reader = csv.reader(io.StringIO(body, newline="\n"), delimiter=separator)
    line = 2
    try:
        for record in reader:
            if record:
                check_quotes(path, line, record, separator)
                yield line, record
            line = reader.line_num + 2
    except csv.Error as error:  # a value of more than 128 KiB
        raise ValueError(f"'{path}' line {line}: {error}; is a quote left open?") from error
