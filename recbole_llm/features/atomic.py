"""RecBole's atomic files as they are written: every value a string, every column kept.

RecBole loads the columns that `load_col` names and turns them into numbers; prompts need the
words.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from recbole_llm.data.check import rows_differ
from recbole_llm.data.files import Table

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
            ValueError: see `recbole_llm.data.check`.
        """
        table = Table.read(path, separator, encoding)
        fields = list(table.columns)
        rows = [
            dict(zip(fields, values, strict=True))
            for values in zip(*table.columns.values(), strict=True)
        ]
        types = table.types
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
            raise rows_differ(self.path, field, twice)
        return rows


def _spread(rows: list[dict[str, str]], fields: list[str], separator: str) -> None:
    for row in rows:
        for field in fields:
            row[field] = ", ".join(row[field].split(separator))
