"""Recommendations written to a file or the screen in parts: CSV, JSON, JSON lines or Parquet."""

from __future__ import annotations

import csv
import io
import json
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from pandas import DataFrame

from recbole_llm.core.errors import check_choice, optional_imports
from recbole_llm.core.files import OTHER_FILE, check_file, written_whole

FORMATS = ("csv", "jsonl", "json", "parquet")


def choose_format(file_format: str | None, file: str | None) -> str:
    """Return the given format, else that of the file's name; to be called before the work.

    Raises:
        ValueError: an unknown format, Parquet without a file or without pyarrow, a folder that
            cannot be written, or a closed output.
    """
    if file_format is not None:
        check_choice("format", file_format, FORMATS)
    suffix = Path(file).suffix.lower().removeprefix(".") if file else ""
    if file_format is None and suffix not in ("", "txt", *FORMATS):
        raise ValueError(
            f"--output: '{file}' ends in no known format ({', '.join(FORMATS)}); name one with "
            f"--format"
        )
    file_format = file_format or (suffix if suffix in FORMATS else "csv")
    if file is not None:
        check_file(file, OTHER_FILE)
    elif sys.stdout is None:  # a shell's >&-
        raise ValueError(f"the output is closed; {OTHER_FILE}")
    if file_format == "parquet":
        if file is None:
            raise ValueError("format: parquet needs a file: --output=recommendations.parquet")
        with optional_imports("format: parquet"):
            import pyarrow  # noqa: F401
    return file_format


def write_frames(frames: Iterable[DataFrame], file_format: str, file: str | None) -> int:
    """Write frames one after another, and count their rows."""
    rows = 0
    opened = _open_screen() if file is None else written_whole(file, OTHER_FILE)
    with opened as stream:
        if file_format == "parquet":
            return _write_parquet(frames, stream)
        for number, frame in enumerate(frames):
            is_first = number == 0 if file_format == "csv" else rows == 0
            stream.write(_to_text(frame, file_format, is_first).encode("utf-8"))
            rows += len(frame)
        if file_format == "json":
            stream.write(b"\n]\n" if rows else b"[]\n")
    return rows


@contextmanager
def _open_screen() -> Iterator[IO[bytes]]:
    """Open the standard output; under PYTHONUNBUFFERED it is a raw file, which may write only some
    of the bytes given."""
    stream = sys.stdout.buffer
    if not isinstance(stream, io.RawIOBase):
        yield stream
        return
    buffered = io.BufferedWriter(stream)
    try:
        yield buffered
    finally:
        buffered.detach()  # which flushes it


def _to_text(frame: DataFrame, file_format: str, is_first: bool) -> str:
    if file_format == "csv":
        options = {"index": False, "header": is_first, "lineterminator": "\n"}
        text = frame.to_csv(**options)
        # Python 3.11 and 3.12 do not quote carriage returns in values, although they end rows.
        return frame.to_csv(**options, quoting=csv.QUOTE_NONNUMERIC) if "\r" in text else text
    if frame.empty:
        return ""
    if file_format == "jsonl":
        return frame.to_json(orient="records", lines=True, force_ascii=False, double_precision=15)
    rows = (json.dumps(row, ensure_ascii=False) for row in frame.to_dict("records"))
    return ("[\n " if is_first else ",\n ") + ",\n ".join(rows)


def _write_parquet(frames: Iterable[DataFrame], stream: IO[bytes]) -> int:
    import pyarrow
    from pyarrow import parquet

    types = {"rank": pyarrow.int64(), "score": pyarrow.float32()}  # the others are texts
    rows, writer, schema = 0, None, pyarrow.schema([])
    try:
        for frame in frames:
            if writer is None:
                columns = [
                    (name, types.get(name, pyarrow.large_string())) for name in frame.columns
                ]
                schema = pyarrow.schema(columns)
                writer = parquet.ParquetWriter(stream, schema)
            writer.write_table(pyarrow.Table.from_pandas(frame, schema, preserve_index=False))
            rows += len(frame)
        writer = writer or parquet.ParquetWriter(stream, schema)
    finally:
        if writer is not None:
            writer.close()
    return rows
