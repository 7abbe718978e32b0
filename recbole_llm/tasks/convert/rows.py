"""Rows as lines of an atomic file."""

from __future__ import annotations

import re
from collections.abc import Container
from keyword import iskeyword

from pandas import DataFrame

BREAKS = re.compile(r"[\t\r\n\v\f\0\x1c-\x1e\x85\u2028\u2029]+")


def unbroken(text: str) -> str:
    """A text without tabs and line ends."""
    return BREAKS.sub(" ", text).strip()


def field_name(column: str, taken: Container[str] = ()) -> str:
    """A column's name as that of a field, without RecBole's type; another than those taken."""
    name = re.sub(r"\W+", "_", column.partition(":")[0]).strip("_") or "text"
    if iskeyword(name):  # which no condition on fields could name
        name += "_"
    while name in taken:
        name += "_2"
    return name


def as_lines(rows: DataFrame) -> bytes:
    """Rows as lines of an atomic file, quoted as CSV where a text has quotes."""
    plain = {"header": False, "index": False, "lineterminator": "\n", "float_format": _number}
    return rows.to_csv(sep="\t", **plain).encode("utf-8", "replace")


def _number(value: float) -> str:
    return str(int(value)) if value == int(value) else repr(float(value))
