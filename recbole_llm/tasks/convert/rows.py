"""Rows as lines of an atomic file."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Container
from keyword import iskeyword

import numpy as np
from pandas import DataFrame, Series

from recbole_llm.core.errors import one_line

BREAKS = re.compile(r"[\t\r\n\v\f\0\x1c-\x1e\x85\u2028\u2029]+")


def without_breaks(text: str) -> str:
    """A text without tabs and line ends."""
    return BREAKS.sub(" ", text).strip()


def excerpt(text: str) -> str:
    """The beginning of a value, in quotes, for a message."""
    return repr(one_line(text, 30))


def left_out_for_id(role: str, token: str) -> str:
    """The message about rows whose user or item is empty, or is `PADDING`."""
    if not token:
        return f"left out, since they have no {role}"
    return f"left out, since RecBole uses the {role} '{token}' as padding (rename it)"


def field_name(column: str, taken: Container[str] = ()) -> str:
    """The name of a column's field, without RecBole's type, and other than the names taken."""
    name = re.sub(r"\W+", "_", column.partition(":")[0]).strip("_") or "text"
    if iskeyword(name):  # conditions on fields could not name it
        name += "_"
    while name in taken:
        name += "_2"
    return name


def as_lines(rows: DataFrame) -> bytes:
    """Rows as lines of an atomic file, quoted as CSV where a text has quotes."""
    lines = io.StringIO()
    columns = [_format_values(rows[name]) for name in rows]
    csv.writer(lines, delimiter="\t", lineterminator="\n").writerows(zip(*columns, strict=True))
    return lines.getvalue().encode("utf-8", "replace")


def _format_values(column: Series) -> list[object]:
    """Values as they are, floats in their shortest form, and "" for nan."""
    if column.dtype != np.float64:
        return column.tolist()
    return ["" if x != x else int(x) if x.is_integer() else repr(x) for x in column.tolist()]
