"""RecBole's atomic files as they are written: every value a string, every column kept.

RecBole loads the columns that `load_col` names and turns them into numbers; prompts need the
words. Quoting is that of CSV files, as pandas, through which RecBole reads, takes it.
"""

from __future__ import annotations

import csv
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

from recbole_llm.features.errors import first_names

TEXT_TYPES = ("token", "token_seq")


@dataclass(frozen=True)
class AtomicFile:
    """A file's columns and rows.

    Args:
        path: the file.
        types: {field: token, token_seq, float or float_seq}, in the file's order.
        rows: one {field: value} per line; values of sequences are joined by spaces, or by ``", "``
            where the file separates them by something else.
    """

    path: Path
    types: dict[str, str]
    rows: list[dict[str, str]]

    @classmethod
    def read(
        cls, path: Path, separator: str = "\t", seq_separator: str = " ", encoding: str = "utf-8"
    ) -> AtomicFile:
        """Read a file.

        Raises:
            ValueError: no such file, a header that is not ``name:type``, a line with another
                number of values.
        """
        if not path.is_file():
            raise ValueError(f"atomic file '{path}' does not exist")
        with path.open(encoding=encoding, newline="\n") as file:
            types = _header(path, file.readline().strip("\ufeff\r\n"), separator)
            rows = [
                _row(path, number, values, types)
                for number, values in _records(path, file, separator)
            ]
        if seq_separator != " ":
            _spread(rows, [f for f, kind in types.items() if kind == "token_seq"], seq_separator)
        return cls(path, types, rows)

    def text_fields(self, without: Collection[str] = ()) -> list[str]:
        """Names of the text and categorical fields."""
        return [f for f, kind in self.types.items() if kind in TEXT_TYPES and f not in without]

    def described(self) -> str:
        """``title:token_seq, price:float`` for messages."""
        return ", ".join(f"{field}:{kind}" for field, kind in self.types.items())

    def by(self, field: str) -> dict[str, dict[str, str]]:
        """Rows by the value of an id field.

        Raises:
            ValueError: the file has no such field, or rows of the same id differ.
        """
        if field not in self.types:
            raise ValueError(f"'{self.path}' has no field '{field}'; it has {self.described()}")
        rows: dict[str, dict[str, str]] = {}
        twice = [r[field] for r in self.rows if rows.setdefault(r[field], r) != r]
        if twice:
            raise ValueError(
                f"'{self.path}': {len(twice)} rows repeat a {field} with other values: "
                f"{first_names(dict.fromkeys(twice))}; keep one row each"
            )
        return rows


def _header(path: Path, line: str, separator: str) -> dict[str, str]:
    fields = [tuple(part.split(":")) for part in line.split(separator)]
    if not all(len(field) == 2 for field in fields):
        raise ValueError(f"'{path}': the header must be name:type fields, got '{line[:80]}'")
    return {name: kind for name, kind in fields}


def _records(path: Path, file: Iterable[str], separator: str) -> Iterator[tuple[int, list[str]]]:
    """Number of its first line and values of each record after the header."""
    lines = enumerate(file, start=2)
    for number, line in lines:
        if '"' in line and len(separator) == 1:
            # A quoted value may go on in the next lines, which the reader takes then.
            whole = csv.reader(chain([line], (more for _, more in lines)), delimiter=separator)
            try:
                yield number, next(whole)
            except csv.Error as error:
                raise ValueError(f"'{path}' line {number}: {error}") from error
        elif line.strip("\r\n"):
            yield number, line.rstrip("\r\n").split(separator)


def _row(path: Path, number: int, values: list[str], types: dict[str, str]) -> dict[str, str]:
    if len(values) != len(types):
        raise ValueError(
            f"'{path}' line {number} has {len(values)} values, the header has {len(types)} fields"
        )
    return dict(zip(types, values, strict=True))


def _spread(rows: list[dict[str, str]], fields: list[str], separator: str) -> None:
    for row in rows:
        for field in fields:
            row[field] = ", ".join(row[field].split(separator))
