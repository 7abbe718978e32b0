"""Users, items and times of an ``.inter`` file, in blocks of lines, checked like any file."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from recbole_llm.core.checkpoints.tokens import PADDING
from recbole_llm.data.reading.files import Table, read_types
from recbole_llm.data.reading.parsing import LARGEST, decode_file, is_wide

if TYPE_CHECKING:
    import pyarrow

BLOCK = 2**24  # bytes to read at a time, plus the rest of the last line
NAMES = ("user", "item", "time")


@dataclass(frozen=True)
class InteractionFile:
    """An ``.inter`` file."""

    path: Path
    user: str  # name of a column, like item and time
    item: str
    time: str
    separator: str = "\t"
    encoding: str = "utf-8"

    def blocks(self, digest: hashlib._Hash) -> Iterator[pyarrow.Table]:
        """Yield the columns `NAMES` in blocks of lines: text, text, float64.

        Args:
            digest: is updated with all bytes of the file.

        Raises:
            ValueError: see `recbole_llm.data.reading.parsing`.
        """
        if is_wide(self.encoding):
            raise ValueError(
                f"encoding: {self.encoding} cannot be read in parts; save '{self.path}' as UTF-8"
            )
        types = read_types(self.path, self.separator, self.encoding)
        with self.path.open("rb") as file:
            header = file.readline()
            if b"\r" in header.rstrip(b"\r\n"):
                raise ValueError(
                    f"'{self.path}' ends its lines by carriage returns alone, which cannot be read "
                    f"in parts; save it with line feeds"
                )
            digest.update(header)
            line = 2
            while raw := file.read(BLOCK) + file.readline():
                raw += _read_open_quote(raw, file, self.separator.encode(self.encoding))
                digest.update(raw)
                yield self._parse(types, decode_file(self.path, raw, self.encoding, line), line)
                line += raw.count(b"\n")

    def _parse(self, types: Mapping[str, str], text: str, line: int) -> pyarrow.Table:
        """Parse plain lines by Arrow. Parse other and malformed lines by `Table`, which handles
        quotes and more forms of numbers, and raises the right errors."""
        import pyarrow

        plain = len(self.separator) == 1 and '"' not in text and "\r" not in text
        found = self._parse_by_arrow(types, text) if plain else None
        if found is not None and _is_clean(found):
            return found
        table = Table.of(self.path, dict(types), text, self.separator, line)
        values = (table.ids(self.user), table.ids(self.item), table.times(self.time))
        arrays = [
            pyarrow.array(v, type=kind) for v, kind in zip(values, _arrow_types(), strict=True)
        ]
        return pyarrow.table(arrays, names=NAMES)

    def _parse_by_arrow(self, types: Mapping[str, str], text: str) -> pyarrow.Table | None:
        import pyarrow
        from pyarrow import csv

        columns = (self.user, self.item, self.time)
        raw = text.encode("utf-8")
        reading = csv.ReadOptions(column_names=list(types), block_size=len(raw) + 1)
        parsing = csv.ParseOptions(delimiter=self.separator, quote_char=False)
        converting = csv.ConvertOptions(
            column_types=dict(zip(columns, _arrow_types(), strict=True)),
            include_columns=columns,
            null_values=[],
        )
        try:
            found = csv.read_csv(pyarrow.BufferReader(raw), reading, parsing, converting)
        except pyarrow.ArrowInvalid:
            return None
        return found.rename_columns(NAMES)


def _read_open_quote(raw: bytes, file: IO[bytes], separator: bytes) -> bytes:
    """Read the further lines of a quoted value that a block ends in. Stop if it has a separator
    besides line ends: it was never closed, and parsing will refuse it."""
    begin = rb"(?:^|\n|%s)" % re.escape(separator)

    def opened(text: bytes) -> bytes | None:
        plain = re.sub(begin + rb'"[^"]*(?:""[^"]*)*"(?!")', b"x", text)
        found = re.search(begin + b'"', plain)
        return None if found is None else plain[found.end() - 1 :]

    rest, value = b"", opened(raw) if b'"' in raw else None
    while value is not None and separator not in value and (line := file.readline()):
        rest += line
        value = opened(value + line)
    return rest


def _is_clean(columns: pyarrow.Table) -> bool:
    """Whether no id is missing, and every time is a number that models can read."""
    import pyarrow
    from pyarrow import compute

    if columns["time"].null_count or compute.any(compute.is_nan(columns["time"])).as_py():
        return False
    none = pyarrow.array(["", PADDING])
    ids: Any = [compute.is_in(columns[name], value_set=none) for name in ("user", "item")]
    missing = any(compute.any(one).as_py() for one in ids)
    size = compute.max(compute.abs(columns["time"])).as_py()
    return not missing and (size is None or size <= LARGEST)


def _arrow_types() -> tuple[pyarrow.DataType, ...]:
    """Arrow's types of the columns `NAMES`."""
    import pyarrow

    return pyarrow.string(), pyarrow.string(), pyarrow.float64()
