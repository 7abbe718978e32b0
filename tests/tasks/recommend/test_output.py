"""Recommendations written in each format."""

from __future__ import annotations

import csv
import io
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pandas as pd
import pytest

from recbole_llm.tasks.recommend.output import choose_format, write_frames


def test_an_output_that_is_a_folder_is_refused() -> None:
    Path("results").mkdir()
    with pytest.raises(ValueError, match="'results' is a folder, where a file is to be written; "):
        choose_format(None, "results")


def test_a_closed_output_is_refused_before_the_work(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdout", None)  # a shell's >&-
    with pytest.raises(ValueError, match="the output is closed; name another file with --output"):
        choose_format("csv", None)


def test_json_begins_with_the_first_row() -> None:
    row = pd.DataFrame({"user": ["u"], "item": ["i"]})
    assert write_frames([row[:0], row, row], "json", "a.json") == 2
    assert [found["user"] for found in json.loads(Path("a.json").read_text())] == ["u", "u"]


def test_parquet_has_the_same_types_whatever_is_written() -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    row = pd.DataFrame({"user": ["u"], "item": ["i"], "score": [3.3e-12]})
    none = pd.DataFrame({name: [] for name in row})
    assert write_frames([none, row, none, row], "parquet", "a.parquet") == 2
    assert pd.read_parquet("a.parquet")["user"].tolist() == ["u", "u"]
    assert write_frames([none], "parquet", "b.parquet") == 0
    assert list(pd.read_parquet("b.parquet")) == ["user", "item", "score"]
    assert parquet.read_schema("a.parquet") == parquet.read_schema("b.parquet")
    write_frames([row], "jsonl", "a.jsonl")
    assert json.loads(Path("a.jsonl").read_text())["score"] == 3.3e-12


def test_an_error_in_the_frames_leaves_no_file() -> None:
    def frames() -> Iterator[pd.DataFrame]:
        yield pd.DataFrame({"user": ["u"], "item": ["i"]})
        raise RuntimeError("out of memory")

    with pytest.raises(RuntimeError, match="out of memory"):
        write_frames(frames(), "csv", "broken.csv")
    assert not Path("broken.csv").exists()


class _Partial(io.RawIOBase):
    """A raw file that takes a few bytes at a time, as a pipe or a full disk does."""

    def __init__(self, room: int = 10**9) -> None:
        self.content, self.room = b"", room

    def writable(self) -> bool:
        return True

    def write(self, part: Any) -> int:
        taken = bytes(part[: min(7, self.room - len(self.content))])
        if not taken:
            raise OSError(28, "No space left on device")
        self.content += taken
        return len(taken)


def test_an_unbuffered_screen_gets_all_or_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    frames = [pd.DataFrame({"user": ["a", "b"], "item": ["i1", "i2"]})] * 30
    screen = _Partial()
    monkeypatch.setattr(sys, "stdout", SimpleNamespace(buffer=screen))
    assert write_frames(frames, "csv", None) == 60
    assert screen.content == b"user,item\n" + b"a,i1\nb,i2\n" * 30
    monkeypatch.setattr(sys, "stdout", SimpleNamespace(buffer=_Partial(100)))
    with pytest.raises(OSError, match="No space left"):
        write_frames(frames, "csv", None)


def test_a_carriage_return_in_a_title_ends_no_row(tmp_path: Path) -> None:
    frame = pd.DataFrame({"user": ["a\rb", "c"], "rank": [1, 2], "title": ['x\ry "z"', "plain"]})
    write_frames([frame, frame], "csv", str(tmp_path / "a.csv"))
    with (tmp_path / "a.csv").open(newline="") as opened:
        rows = list(csv.reader(opened))
    assert rows == [["user", "rank", "title"], *frame.astype(str).to_numpy().tolist() * 2]
    pd.testing.assert_frame_equal(
        pd.read_csv(tmp_path / "a.csv"), pd.concat([frame] * 2, ignore_index=True)
    )
