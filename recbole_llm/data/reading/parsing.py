"""Parsing atomic files; each error is one line that names the file, the line and the way out."""

from __future__ import annotations

import codecs
import csv
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from recbole_llm.core.arrays import FloatArray
from recbole_llm.core.errors import and_more, near_hint

TYPES = ("token", "token_seq", "float", "float_seq")
_SEPARATORS = {"\t": "tabs", ",": "commas", ";": "semicolons", "|": "bars", " ": "spaces"}
_SHOWN = 3  # lines in a message
_ZIPPED = {b"\x1f\x8b": "gzip", b"PK\x03\x04": "zip", b"BZh": "bzip2", b"\xfd7zXZ": "xz"}
_UTF_16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
LARGEST = float(np.finfo(np.float32).max)  # models read numbers as float32
Array = npt.NDArray[np.generic]


def conversion_command(path: Path) -> str:
    """The command that makes atomic files from a table."""
    return f"recbole-llm convert {path} --output=dataset/{path.parent.name or 'shop'}"


def at_lines(numbers: Iterable[int]) -> str:
    """``line 7``, or ``lines 2, 5, 9 and 12 more``."""
    lines = [int(number) for number in numbers]
    shown = ", ".join(map(str, lines[:_SHOWN])) + and_more(lines, _SHOWN)
    return f"line{'s' if len(lines) > 1 else ''} {shown}"


def is_wide(encoding: str) -> bool:
    """Whether the encoding's code units take two or four bytes; ValueError if it is unknown."""
    try:
        return codecs.lookup(encoding).name.startswith(("utf-16", "utf-32"))
    except LookupError as error:
        raise ValueError(f"encoding: '{encoding}' is unknown; name one, such as utf-8") from error


def decode_file(path: Path, raw: bytes, encoding: str, first: int = 1) -> str:
    """The text of a file, with newlines as the only line ends and without a byte order mark.

    Args:
        raw: the bytes of the file, or of some of its lines.
        first: number of the first line in `raw`.

    Raises:
        ValueError: the file is compressed, or has another encoding.
    """
    for magic, kind in _ZIPPED.items():
        if first == 1 and raw.startswith(magic):
            raise ValueError(f"'{path}' is compressed ({kind}); unpack it")
    if not is_wide(encoding) and (first == 1 and raw.startswith(_UTF_16) or b"\0" in raw):
        raise ValueError(
            f"'{path}' is not {encoding} text (UTF-16, or binary); save it as UTF-8, or set "
            f"--encoding=utf-16"
        )
    try:
        text = raw.decode(encoding)
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + first
        raise ValueError(
            f"'{path}' line {line} is not {encoding}; save the file as UTF-8, or name its "
            f"encoding, such as --encoding=latin-1"
        ) from error
    text = text.removeprefix("\ufeff") if first == 1 else text
    if "\r" not in text:
        return text
    # In a file without newlines, carriage returns end lines; in others they are part of values.
    newlines = "\n" in text or first > 1
    return text.replace("\r\n", "\n") if newlines else text.replace("\r", "\n")


def parse_header(path: Path, line: str, separator: str) -> dict[str, str]:
    """``{name: type}`` of a header.

    Raises:
        ValueError: the header does not consist of ``name:type`` fields, or has a name twice.
    """
    parts = line.split(separator)
    other = [s for s in _SEPARATORS if s != separator and s in line]
    if len(parts) == 1 and other:
        found = f"'{path}' is separated by {_SEPARATORS[other[0]]}, not by "
        found += f"{_SEPARATORS.get(separator, repr(separator))}: its header is '{line[:80]}'; "
        if _typed(line.split(other[0])):
            raise ValueError(f"{found}set --field_separator='{other[0]}'")
        if _typed(line.split()):
            raise ValueError(f"{found}put one tab between columns, in all lines")
        raise ValueError(f"{found}make a data set from it with: {conversion_command(path)}")
    if parts[-1] == "" and len(parts) > 1:
        raise ValueError(f"'{path}' line 1 ends with a separator; delete it, in all lines")
    if not _typed(parts):
        raise ValueError(
            f"'{path}': the header must be name:type fields, got '{line[:80]}'; name the types, "
            f"such as user_id:token, title:token_seq, timestamp:float, or: "
            f"{conversion_command(path)}"
        )
    fields = [part.split(":") for part in parts]
    for name, kind in fields:
        if kind not in TYPES:
            near = near_hint(kind, TYPES)
            raise ValueError(
                f"'{path}' line 1: the type of '{name}:{kind}' is unknown; {near}choose from "
                f"{', '.join(TYPES)}"
            )
    names = [name for name, _ in fields]
    if twice := [name for name in names if names.count(name) > 1]:
        raise ValueError(f"'{path}' line 1 has the column '{twice[0]}' more than once; rename one")
    return dict(map(tuple, fields))  # type: ignore[arg-type]


def _typed(parts: Sequence[str]) -> bool:
    return all(part.count(":") == 1 and part.strip(":") == part for part in parts)


def check_quotes(path: Path, line: int, values: Iterable[str], separator: str) -> None:
    """Refuse a record whose quoted value runs over line ends and separators, or to the end."""
    for value in values:
        if "\n" in value and (separator in value or value.endswith("\n")):
            raise ValueError(
                f"'{path}' line {line} opens a quote at '{value[:30].splitlines()[0]}' that is "
                f"not closed in its field; close it, or delete the quote"
            )


def read_csv_rows(lines: Iterable[str], **form: Any) -> Any:
    """``csv.reader`` without its limit of 128 KiB per value: a text may be longer, and an open
    quote is only recognized by all that it swallowed."""
    csv.field_size_limit(2**31 - 1)
    return csv.reader(lines, **form)


def parse_numbers(path: Path, field: str, values: Array, lines: Array) -> FloatArray:
    """Values, object [N], as float64; ``nan`` is kept and means a missing value.

    Raises:
        ValueError: a value is not a number, or is too large for float32.
    """
    try:
        found: FloatArray = values.astype(np.float64)
    except (ValueError, OverflowError):
        wrong = [i for i, value in enumerate(values) if not _is_number(value)]
        raise ValueError(
            f"'{path}' {at_lines(lines[wrong])}: '{str(values[wrong[0]])[:30]}' in {field}:float "
            f"is not a number; write numbers, or another type in the header; this turns dates into "
            f"Unix seconds: {conversion_command(path)}"
        ) from None
    wrong = np.flatnonzero(np.abs(found) > LARGEST).tolist()
    if wrong:
        raise ValueError(
            f"'{path}' {at_lines(lines[wrong])}: {str(values[wrong[0]])[:30]} in {field}:float is "
            f"infinite, or too large for models to read; correct it, or delete the row"
        )
    return found


def _is_number(value: object) -> bool:
    try:
        float(value)  # type: ignore[arg-type]
    except ValueError:
        return False
    return True
