"""A folder of sorted interactions: columns as plain numbers, which are memory-mapped."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from recbole_llm.core.arrays import IntArray
from recbole_llm.core.checkpoints.tokens import unpack
from recbole_llm.core.digest import file_digest
from recbole_llm.data.reading.inter_blocks import InteractionFile
from recbole_llm.data.settings import LONGEST_ON_DISK

VERSION = 1
ABOUT = "about.json"
PADDING_ROWS = LONGEST_ON_DISK  # zeros after every column, in which the last windows end
# File name of each column -> dtype of its values.
COLUMNS: Mapping[str, np.dtype[Any]] = {
    "user": np.dtype(np.int64),  # numbers from 1, in order of first appearance
    "item": np.dtype(np.int64),
    "time": np.dtype(np.float32),
    "exact_time": np.dtype(np.float64),
    "position": np.dtype(np.int32),  # number of earlier interactions of the same user
}


@dataclass(frozen=True)
class ColumnFolder:
    """Interactions sorted by user, time and place in the file."""

    path: Path
    interactions: int  # their number, N

    @classmethod
    def of(cls, path: Path, source: InteractionFile) -> ColumnFolder | None:
        """The folder at `path`; None unless it was made from the present content of the file, and
        none of its own files is missing or cut short."""
        try:
            about = json.loads((path / ABOUT).read_text(encoding="utf-8"))
            whole = dict(about["sizes"]).items() <= file_sizes(path).items()  # others are allowed
            same = about["made_of"] == folder_origin(source) and _is_unchanged(source.path, about)
            return cls(path, int(about["interactions"])) if same and whole else None
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def column(self, name: str) -> Tensor:
        """A column followed by `PADDING_ROWS` zeros, [N + P]; only what is read takes memory."""
        kind = torch.from_numpy(np.empty(0, COLUMNS[name])).dtype
        size = self.interactions + PADDING_ROWS
        return torch.from_file(str(self.path / name), shared=False, size=size, dtype=kind)

    def starts(self) -> IntArray:
        """Position of each user's first interaction, by user id, then N; int64 [n_users + 1]."""
        return np.fromfile(self.path / "starts", np.int64)

    def tokens(self, name: str) -> Any:
        """The names of the users or items by id, the padding first; object [n]."""
        packed = {
            "utf8": torch.from_numpy(np.fromfile(self.path / f"{name}_utf8", np.uint8)),
            "lengths": torch.from_numpy(np.fromfile(self.path / f"{name}_lengths", np.int32)),
        }
        return unpack({name: packed})[name]


def file_sizes(path: Path) -> dict[str, int]:
    """Sizes in bytes of the files in a folder, {name: size}."""
    return {file.name: file.stat().st_size for file in path.iterdir() if file.is_file()}


def folder_origin(source: InteractionFile) -> dict[str, Any]:
    """The settings that a folder depends on besides the file's content."""
    columns = [source.user, source.item, source.time]
    form = [source.separator, source.encoding, sys.byteorder]
    return {"version": VERSION, "columns": columns, "form": form}


def _is_unchanged(file: Path, about: Mapping[str, Any]) -> bool:
    """Whether the file has the recorded size, and the recorded time of change or content."""
    state = file.stat()
    if state.st_size != about["bytes"]:
        return False
    if state.st_mtime_ns == about["changed_ns"]:
        return True
    return file_digest(file) == str(about["sha256"])
