"""Reading atomic files: every value as it is written, every line accounted for."""

from __future__ import annotations

import codecs
import csv
import io
import re
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from recbole_llm.core.arrays import BoolArray, FloatArray, IntArray, ObjectArray
from recbole_llm.core.checkpoints.tokens import PADDING
from recbole_llm.core.errors import first_names
from recbole_llm.core.settings import ConfigLike
from recbole_llm.data.reading.parsing import (
    at_lines,
    check_quotes,
    decode_file,
    is_wide,
    parse_header,
    parse_numbers,
    read_csv_rows,
)

# Values that pandas, and so RecBole, takes for missing. Here ids are exempt.
MISSING = {
    "", "#N/A", "#N/A N/A", "#NA", "-1.#IND", "-1.#QNAN", "-NaN", "-nan", "1.#IND", "1.#QNAN",
    "<NA>", "N/A", "NA", "NULL", "NaN", "None", "n/a", "nan", "null",
}  # fmt: skip


@dataclass(frozen=True)
class Table:
    """A file's columns."""

    path: Path
    types: dict[str, str]  # {field: token, token_seq, float or float_seq}, in the file's order
    columns: dict[str, ObjectArray]  # {field: values as strings, object [N]}
    lines: IntArray  # number of the line on which each record begins, int64 [N]

    @classmethod
    def read(cls, path: Path, separator: str = "\t", encoding: str = "utf-8") -> Table:
        """Read a file, whose values may be quoted as in CSV files.

        Raises:
            ValueError: see `recbole_llm.data.reading.parsing`.
        """
        first, _, body = decode_file(path, path.read_bytes(), encoding).partition("\n")
        return cls.of(path, parse_header(path, first, separator), body, separator)

    @classmethod
    def of(
        cls, path: Path, types: dict[str, str], body: str, separator: str, first: int = 2
    ) -> Table:
        """Parse some whole lines of a file, the first of which is line number `first`."""
        # As in pandas, there are no quoted values with a longer separator.
        quoted = '"' in body and len(separator) == 1
        read = (
            _parse_quoted(path, body, separator, first)
            if quoted
            else _parse_plain(body, separator, first)
        )
        lines, counts, flat = read
        wrong = np.flatnonzero(counts != len(types))
        if len(wrong):
            number = int(counts[wrong[0]])
            raise ValueError(
                f"'{path}' {at_lines(lines[wrong])}: {number} value{'s' if number != 1 else ''}, "
                f"the header has {len(types)} fields; write one value per field, and leave missing "
                f"values empty"
            )
        values = np.array(flat, dtype=object).reshape(-1, len(types))
        return cls(path, types, {f: values[:, i] for i, f in enumerate(types)}, lines)

    def ids(self, field: str) -> ObjectArray:
        """A column of user or item ids, object [N]; ValueError if one is missing."""
        values = self.columns[field]
        for wrong, what in (("", "is empty"), (PADDING, f"is {PADDING}, RecBole's padding")):
            found = np.flatnonzero(values == wrong)
            if len(found):
                raise ValueError(
                    f"'{self.path}' {at_lines(self.lines[found])}: {field} {what}; name the id, or "
                    f"delete the row"
                )
        return values

    def check_distinct(self, field: str) -> None:
        """Refuse rows that have the same id and differ."""
        first: dict[str, tuple[str, ...]] = {}
        records = zip(self.columns[field], zip(*self.columns.values(), strict=True), strict=True)
        twice = [name for name, record in records if first.setdefault(name, record) != record]
        if twice:
            names = first_names(dict.fromkeys(twice))
            raise ValueError(
                f"'{self.path}': several rows of one {field} differ: {names}; keep one row for each"
            )

    def rows(self) -> list[dict[str, str]]:
        """One {field: value} per record."""
        records = zip(*self.columns.values(), strict=True)
        return [dict(zip(self.columns, record, strict=True)) for record in records]

    def rows_by_id(self, field: str) -> dict[str, dict[str, str]]:
        """Rows by the value of an id field.

        Raises:
            ValueError: the file has no such field, or rows of the same id differ.
        """
        if field not in self.types:
            raise ValueError(
                f"'{self.path}' has no field '{field}'; it has {self.describe_fields()}"
            )
        self.check_distinct(field)
        return {row[field]: row for row in self.rows()}

    def text_fields(self, without: Collection[str]) -> list[str]:
        """Names of the text and categorical fields."""
        texts = ("token", "token_seq")
        return [f for f, kind in self.types.items() if kind in texts and f not in without]

    def describe_fields(self) -> str:
        """``title:token_seq, price:float`` for messages."""
        return ", ".join(f"{field}:{kind}" for field, kind in self.types.items())

    def numbers(self, field: str) -> FloatArray:
        """A column of numbers, nan where one is missing; [N]."""
        text = np.where(self.missing(field), "nan", self.columns[field])
        return parse_numbers(self.path, field, text, self.lines)

    def times(self, field: str) -> FloatArray:
        """A column of times, [N]; ValueError if one is missing, which RecBole would replace by the
        mean of all others."""
        found = self.numbers(field)
        missing = np.flatnonzero(np.isnan(found))
        if len(missing):
            raise ValueError(
                f"'{self.path}' {at_lines(self.lines[missing])}: {field}:float (TIME_FIELD) is "
                f"missing, so the order of events is unknown; write a number, such as Unix "
                f"seconds, delete the row, or leave the column out (load_col)"
            )
        return found

    def missing(self, field: str) -> BoolArray:
        """Which values of a column are missing, [N]."""
        return np.array([value in MISSING for value in self.columns[field]], dtype=bool)


def file_format(config: ConfigLike) -> tuple[str, str]:
    """How a data set's files are written: the separator of their columns, and their encoding."""
    return config["field_separator"] or "\t", config["encoding"] or "utf-8"


def read_types(path: Path, separator: str = "\t", encoding: str = "utf-8") -> dict[str, str]:
    """``{field: type}`` of a file's header; raises like `Table.read`."""
    with path.open("rb") as file:
        start = file.read(2**16)  # may end within a line or a character
    if is_wide(encoding):
        whole = codecs.getincrementaldecoder(encoding)("ignore").decode(start)
        start = whole.encode(encoding)
    else:
        start = re.split(rb"[\r\n]", start, maxsplit=1)[0]
    first = decode_file(path, start, encoding).partition("\n")[0]
    return parse_header(path, first, separator)


def _parse_plain(body: str, separator: str, first: int) -> tuple[IntArray, IntArray, list[str]]:
    """Each record's line number and number of values, [N] each, and all values in sequence."""
    rows = body.split("\n")
    lines = np.array([i for i, row in enumerate(rows, start=first) if row], dtype=np.int64)
    rows = [row for row in rows if row]
    counts = np.array([row.count(separator) + 1 for row in rows], dtype=np.int64)
    joined = separator.join(rows)
    del rows  # which is as large as the list that is made next
    return lines, counts, joined.split(separator) if joined else []


def _parse_quoted(
    path: Path, body: str, separator: str, first: int
) -> tuple[IntArray, IntArray, list[str]]:
    returns = "\r" in body  # these end a row in the csv module; no text has the stand-in "\0"
    plain = body.replace("\r", "\0") if returns else body
    reader = read_csv_rows(io.StringIO(plain, newline="\n"), delimiter=separator)
    line = first
    lines, counts, flat = [], [], []
    try:
        for record in reader:
            if record:
                check_quotes(path, line, record, separator)
                lines.append(line)
                counts.append(len(record))
                flat += record
            line = reader.line_num + first
    except csv.Error as error:
        raise ValueError(f"'{path}' line {line}: {error}; is a quote left open?") from error
    if returns:
        flat = [value.replace("\0", "\r") for value in flat]
    return np.array(lines, dtype=np.int64), np.array(counts, dtype=np.int64), flat
