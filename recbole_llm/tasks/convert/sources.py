"""Users' own tables, read in chunks of texts: CSV, JSON lines, Parquet, data frames."""

from __future__ import annotations

import codecs
import csv
import gzip
import io
import json
import shlex
import zlib
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import IO, Any, cast

import numpy as np
from pandas import DataFrame, Index

from recbole_llm.core.errors import missing_file_error, one_line, optional_imports
from recbole_llm.core.problems import Problems
from recbole_llm.tasks.convert import encodings, headers
from recbole_llm.tasks.convert.texts import LINE, as_texts

CHUNK = 200_000  # rows that are in memory at once
_JSON = (".json", ".jsonl", ".ndjson")


class Source:
    """A file of rows.

    Args:
        path: CSV (any of the usual separators), JSON lines or Parquet; ``.gz`` is unpacked.
        separator: of a CSV file; None: the most frequent one in its header.
        names: names of the columns, for a file without a header.
        encoding: of a text file that is not UTF-8.

    Raises:
        ValueError: no such file.
    """

    late: Sequence[str] = ()  # columns that the first chunk lacks

    def __init__(
        self,
        path: str | Path,
        separator: str | None = None,
        names: Sequence[str] | None = None,
        encoding: str = "utf-8-sig",
    ) -> None:
        self.path, self.separator, self.names = Path(path), separator, names
        self.encoding, self.problems = encoding, Problems()
        if not self.path.is_file():
            raise missing_file_error("the file", path)
        encodings.check_known(encoding)

    def __str__(self) -> str:
        return str(self.path)

    @staticmethod
    def option(name: str, value: str = "") -> str:
        """A field of `Roles` as an option, for messages: ``--date-format=%d.%m.%Y``."""
        shown = value if value in ("", "…") else shlex.quote(value)
        return f"--{name.replace('_', '-')}{'=' if value else ''}{shown}"

    def chunks(self) -> Iterator[DataFrame]:
        """The rows in chunks: columns of texts, "" for missing values, and the column `LINE`."""
        try:
            yield from self._read()
        except UnicodeDecodeError as error:
            raise encodings.decode_error(self.path, self.encoding, error) from error
        except csv.Error as error:
            raise ValueError(f"'{self.path}': {one_line(error)}") from error
        except (EOFError, gzip.BadGzipFile, zlib.error) as error:
            raise ValueError(f"'{self.path}' is cut off, or no gzip file: get it again") from error

    def _read(self) -> Iterator[DataFrame]:
        suffixes = [suffix.lower() for suffix in self.path.suffixes if suffix.lower() != ".gz"]
        if suffixes[-1:] == [".parquet"]:
            yield from self._parquet()
        elif suffixes and suffixes[-1] in _JSON:
            yield from self._frames(self._json_rows())
        else:
            with self._open() as file:
                header, rows = self._rows(file)
                yield from self._frames((line, dict(zip(header, row))) for line, row in rows)

    def _open(self) -> IO[str]:
        with self._raw() as file:
            encodings.check_text(file, self.path)
        of_utf_8 = codecs.lookup(self.encoding).name in ("utf-8", "utf-8-sig")
        if not of_utf_8:
            with self._raw() as file:
                of_utf_8 = encodings.is_utf_8(file, self.encoding)
        return io.TextIOWrapper(self._raw(), "utf-8-sig" if of_utf_8 else self.encoding, newline="")

    def _raw(self) -> IO[bytes]:
        if self.path.suffix.lower() == ".gz":
            return cast(IO[bytes], gzip.open(self.path))
        return self.path.open("rb")

    def _rows(self, file: IO[str]) -> tuple[list[str], Iterator[tuple[int, list[str]]]]:
        """The header, and the line and values of each row that has as many values."""
        separator, before = self.separator, 0
        if separator is None:
            separator, before = headers.find_header(file)
        numbered = headers.number_rows(file, separator, before, quoted=not self.names)
        header = list(self.names or headers.name_columns(next(numbered, (0, []))[1]))
        if not header:
            raise ValueError(f"'{self.path}' is empty")
        self._check_names(header)
        return header, self._rows_of_width(numbered, len(header))

    def _check_names(self, names: Sequence[str]) -> None:
        for name, count in Counter(names).items():
            if count > 1:
                raise ValueError(f"'{self}' has several columns '{name}'; rename all but one")

    def _rows_of_width(
        self, rows: Iterator[tuple[int, list[str]]], width: int
    ) -> Iterator[tuple[int, list[str]]]:
        for line, row in rows:
            if len(row) == width:
                yield line, row
            elif any(row):
                last = line + sum(value.count("\n") for value in row)
                what, place = "they have more or fewer values than the header", f"line {line}"
                if last > line:
                    what, place = (
                        "their row has another width than the header (an open quote?)",
                        f"{place} to {last}",
                    )
                self.problems.add(f"left out, since {what}", [place], last - line + 1)

    def _json_rows(self) -> Iterator[tuple[int, dict[str, Any]]]:
        with self._open() as file:
            for line, text in enumerate(file, start=1):
                if not text.strip():
                    continue
                try:
                    row = json.loads(text)
                except (ValueError, RecursionError):
                    row = None
                if isinstance(row, dict):
                    yield line, row
                elif line == 1 and text.lstrip().startswith("["):
                    raise ValueError(f"'{self.path}' is one JSON array; write one object per line")
                else:
                    self.problems.add("left out, since they are no JSON object", [f"line {line}"])

    def _frames(self, rows: Iterator[tuple[int, dict[str, Any]]]) -> Iterator[DataFrame]:
        columns = Index([])  # of all chunks so far: a later chunk may lack some
        self.late = []
        while taken := [{**row, LINE: line} for line, row in islice(rows, CHUNK)]:
            frame = DataFrame(taken, dtype=object)  # else a null makes floats of ids
            if len(columns):
                self.late = [*self.late, *frame.columns.difference(columns, sort=False)]
            columns = columns.union(frame.columns, sort=False)
            yield as_texts(frame.reindex(columns=columns))

    def _parquet(self) -> Iterator[DataFrame]:
        with optional_imports("a Parquet file"):
            from pyarrow import ArrowException, ArrowInvalid, parquet
        try:
            file = parquet.ParquetFile(self.path)
        except ArrowInvalid as error:
            raise ValueError(f"'{self.path}' is no Parquet file ({one_line(error)})") from error
        with file:
            self._check_names(file.schema_arrow.names)
            line = 1
            try:
                for batch in file.iter_batches(CHUNK):
                    # Keeps the digits of large ids, and what was a frame's index, if it has a name.
                    frame = batch.to_pandas(integer_object_nulls=True, ignore_metadata=True)
                    frame = frame.loc[:, ~frame.columns.str.fullmatch(r"__index_level_\d+__")]
                    frame[LINE] = np.arange(line, line + len(frame))
                    line += len(frame)
                    yield as_texts(frame)
            except (ArrowException, OSError) as error:
                raise ValueError(
                    f"'{self.path}' is damaged ({one_line(error)}); get it again"
                ) from error


def late_columns_problem() -> str:
    """The description of columns that appear too late to be taken."""
    return f"columns that are in none of the first {CHUNK:,} rows, left out"


class FrameSource(Source):
    """A data frame in place of a file."""

    def __init__(self, frame: DataFrame, name: str) -> None:
        if not isinstance(frame, DataFrame):
            raise ValueError(f"{name}: expected a pandas data frame, got {_named(frame)}")
        self.frame, self.name, self.problems = frame, name, Problems()
        self._check_names([str(column) for column in _with_named_index(frame.iloc[:0]).columns])

    def __str__(self) -> str:
        return self.name

    @staticmethod
    def option(name: str, value: str = "") -> str:
        """A field of `Roles` as an argument in Python: ``date_format='%d.%m.%Y'``."""
        shown = value if value in ("", "…") else repr(value)
        return f"{name}{'=' if value else ''}{shown}"

    def chunks(self) -> Iterator[DataFrame]:
        for start in range(0, len(self.frame), CHUNK):
            part = _with_named_index(self.frame.iloc[start : start + CHUNK])
            part.columns = [str(column) for column in part.columns]
            part[LINE] = np.arange(start + 1, start + 1 + len(part))
            yield as_texts(part)


def _with_named_index(frame: DataFrame) -> DataFrame:
    """A copy whose index has become columns where it has names, as in a CSV or Parquet file."""
    named = [name for name in frame.index.names if name is not None and name not in frame.columns]
    return frame.reset_index(level=named) if named else frame.copy()


def _named(given: object) -> str:
    """What was given in place of a data frame: its type, since it may hold millions of rows."""
    if isinstance(given, (str, Path)):
        return f"'{given}'; convert reads files"
    package, kind = type(given).__module__.partition(".")[0], type(given).__qualname__
    name = kind if package == "builtins" else f"{package}.{kind}"
    return name + ("; its method to_pandas makes one" if hasattr(given, "to_pandas") else "")
