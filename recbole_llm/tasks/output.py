"""Recommendations to a file or the screen, as they come: CSV, JSON, JSON lines or Parquet."""

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

from recbole_llm.core.errors import check_choice, needing
from recbole_llm.core.files import OTHER_FILE, check_file, written_whole

KINDS = ("csv", "jsonl", "json", "parquet")


def kind_of(kind: str | None, file: str | None) -> str:
    """The form that is asked for, or that the file's name says; before the work.

    Raises:
        ValueError: Parquet without a file or without pyarrow, a folder that cannot be written, or a
            closed output.
    """
    if kind is not None:
        check_choice("format", kind, KINDS)
    suffix = Path(file).suffix.lower().removeprefix(".") if file else ""
    if kind is None and suffix not in ("", "txt", *KINDS):
        raise ValueError(
            f"--output: '{file}' says no format that is known ({', '.join(KINDS)}); say it with "
            f"--format"
        )
    kind = kind or (suffix if suffix in KINDS else "csv")
    if file is not None:
        check_file(file, OTHER_FILE)
    elif sys.stdout is None:  # a shell's >&-
        raise ValueError(f"the output is closed; {OTHER_FILE}")
    if kind == "parquet":
        if file is None:
            raise ValueError("format: parquet needs a file: --output=recommendations.parquet")
        with needing("format: parquet"):
            import pyarrow  # noqa: F401
    return kind


def write(frames: Iterable[DataFrame], kind: str, file: str | None) -> int:
    """Write frames one after another; the number of rows."""
    rows = 0
    opened = _screen() if file is None else written_whole(file, OTHER_FILE)
    with opened as stream:
        if kind == "parquet":
            return _write_parquet(frames, stream)
        for number, frame in enumerate(frames):
            first = number == 0 if kind == "csv" else rows == 0
            stream.write(_text(frame, kind, first).encode("utf-8"))
            rows += len(frame)
        if kind == "json":
            stream.write(b"\n]\n" if rows else b"[]\n")
    return rows


@contextmanager
def _screen() -> Iterator[IO[bytes]]:
    """The output; under PYTHONUNBUFFERED it is a raw file, which may write a part of what it is
    given."""
    stream = sys.stdout.buffer
    if not isinstance(stream, io.RawIOBase):
        yield stream
        return
    whole = io.BufferedWriter(stream)
    try:
        yield whole
    finally:
        whole.detach()  # which writes what is left


def _text(frame: DataFrame, kind: str, first: bool) -> str:
    if kind == "csv":
        form = {"index": False, "header": first, "lineterminator": "\n"}
        text = frame.to_csv(**form)
        # Python 3.11 and 3.12 leave values with carriage returns, which end rows, without quotes.
        return frame.to_csv(**form, quoting=csv.QUOTE_NONNUMERIC) if "\r" in text else text
    if frame.empty:
        return ""
    if kind == "jsonl":
        return frame.to_json(orient="records", lines=True, force_ascii=False, double_precision=15)
    rows = (json.dumps(row, ensure_ascii=False) for row in frame.to_dict("records"))
    return ("[\n " if first else ",\n ") + ",\n ".join(rows)


def _write_parquet(frames: Iterable[DataFrame], stream: IO[bytes]) -> int:
    import pyarrow
    from pyarrow import parquet

    kinds = {"rank": pyarrow.int64(), "score": pyarrow.float32()}  # the others are texts
    rows, writer, schema = 0, None, pyarrow.schema([])
    try:
        for frame in frames:
            if writer is None:
                types = [(name, kinds.get(name, pyarrow.large_string())) for name in frame.columns]
                schema = pyarrow.schema(types)
                writer = parquet.ParquetWriter(stream, schema)
            writer.write_table(pyarrow.Table.from_pandas(frame, schema, preserve_index=False))
            rows += len(frame)
        writer = writer or parquet.ParquetWriter(stream, schema)
    finally:
        if writer is not None:
            writer.close()
    return rows
