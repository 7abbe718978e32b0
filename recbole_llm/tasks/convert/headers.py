"""Where the header of a CSV file is, and how its columns are called."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import IO

NAMELESS = re.compile(r"Unnamed: \d+")  # as pandas calls the index that it wrote before
_SEPARATORS = ("\t", ",", ";", "|")
_FOR_EXCEL = re.compile(r'"?sep=.?"?\s*', re.IGNORECASE)  # a line that names the separator
_NOTHING = '\t,;|" \r\n'  # an empty row of Excel is a line of separators


def find_header(file: IO[str]) -> tuple[str, int]:
    """Read a file up to its header: past empty rows, and the line that is for Excel alone.

    Returns:
        the separator, which the header has most of; how many lines stand before it.
    """
    before, place = 0, file.tell()
    while (line := file.readline()) and (not line.strip(_NOTHING) or _FOR_EXCEL.fullmatch(line)):
        before, place = before + 1, file.tell()
    file.seek(place)
    return max(_SEPARATORS, key=line.count), before


def named(header: Sequence[str]) -> list[str]:
    """The names of columns; `NAMELESS` where there is none, as of Excel's empty columns."""
    return [name if name.strip() else f"Unnamed: {i}" for i, name in enumerate(header)]
