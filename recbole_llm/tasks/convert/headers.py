"""The header of a CSV file: its line, and the names of the columns."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator, Sequence
from itertools import chain
from typing import IO

from recbole_llm.data.reading.parsing import read_csv_rows

NAMELESS = re.compile(r"Unnamed: \d+")  # pandas' name for a column without one, such as an index
_SEPARATORS = ("\t", ",", ";", "|")
_QUOTED = re.compile(r'"[^"]*"')  # a name, which may contain separators
_FOR_EXCEL = re.compile(r'"?sep=.?"?\s*', re.IGNORECASE)  # a line that names the separator
_NOTHING = '\t,;|" \r\n'  # an empty row of Excel is a line of separators


def find_header(file: IO[str]) -> tuple[str, int]:
    """Move a file to its header: past empty rows, and past a line that is only for Excel.

    Returns:
        the separator that is most frequent in the header; the number of lines before the header.
    """
    before, place = 0, file.tell()
    while (line := file.readline()) and (not line.strip(_NOTHING) or _FOR_EXCEL.fullmatch(line)):
        before, place = before + 1, file.tell()
    file.seek(place)
    return max(_SEPARATORS, key=_QUOTED.sub("", line).count), before


def number_rows(
    file: IO[str], separator: str, before: int, quoted: bool
) -> Iterator[tuple[int, list[str]]]:
    """Rows, each with the line in which it begins, counted from 1; `before` lines were read.

    Raises:
        csv.Error: a quote is not closed by the end of the file.
    """
    if len(separator) > 1:  # such as MovieLens' "::", which the csv module refuses
        yield from enumerate((line.rstrip("\r\n").split(separator) for line in file), before + 1)
        return
    reader = read_csv_rows(
        chain(file, ["\n"]),  # an empty row, unless a value is still open
        delimiter=separator,
        quoting=csv.QUOTE_MINIMAL if quoted else csv.QUOTE_NONE,
        skipinitialspace=separator != "\t",  # spaces after a comma are no part of the value
    )
    line, begun, row = before + 1, 0, []
    for row in reader:
        yield line, row
        begun, line = line, before + reader.line_num + 1
    if row and line > begun + 2:
        raise csv.Error(f"the quote that opens in line {begun} is not closed")


def name_columns(header: Sequence[str]) -> list[str]:
    """Name columns as the header does, or `NAMELESS` where it has none."""
    return [name if name.strip() else f"Unnamed: {i}" for i, name in enumerate(header)]
