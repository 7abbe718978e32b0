"""What the columns of a converted table are, and what became of it."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from recbole_llm.core.lines import counted

_SMALL = 1e8  # smaller times, before 1973, are numbers of events rather than seconds
_TEXTS = ("token", "token_seq")  # that item_prompt reads by default


@dataclass(frozen=True)
class Roles:
    """Which column is what; None: the one whose name says it.

    Args:
        user, item, time, rating, label: columns of the interactions; the items' file has `item`
            too, or one that is named alike. ``none`` for time, rating or label: no column is
            guessed to be it.
        keep: further columns of the interactions, ids or words; numbers as ``name:float``, whose
            unreadable values are left empty.
        text: columns that describe an item; None: all of the items' file.
        date_format: of the times, as of ``strptime``; None: found out.
    """

    user: str | None = None
    item: str | None = None
    time: str | None = None
    rating: str | None = None
    label: str | None = None
    keep: Sequence[str] = ()
    text: Sequence[str] | None = None
    date_format: str | None = None

    def named(self) -> set[str]:
        """The columns that the user gave a role, or keeps."""
        given = (self.user, self.item, self.time, self.rating, self.label, *self.keep)
        kept = (typed.partition(":")[0] for typed in self.keep)
        return {name for name in (*given, *kept) if name is not None}


@dataclass
class Summary:
    """What was written.

    Args:
        folder: of the data set.
        columns, of_items: {column: what it became} in either file.
        given: the columns of the interactions.
        unused_of_items: columns of a table of items that became no field.
        users, items, interactions: how many.
        unwanted: interactions with a label below 1.
        first, last: Unix seconds; NaN without times.
        one_table: whether the interactions' table describes the items, too.
        described: items with interactions that have a text in the ``.item`` file; None without one.
        unbought, blank: rows of that file without interactions, and those without any text.
        replaced: names of files that were there before.
        problems: of the interactions, then of the items.
        time_option: how the column of times is named.
    """

    folder: Path
    columns: dict[str, str] = field(default_factory=dict)
    of_items: dict[str, str] = field(default_factory=dict)
    given: Sequence[str] = ()
    unused_of_items: Sequence[str] = ()
    users: int = 0
    items: int = 0
    interactions: int = 0
    unwanted: int = 0
    first: float = float("nan")
    last: float = float("nan")
    one_table: bool = False
    described: int | None = None
    unbought: int = 0
    blank: int = 0
    replaced: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    time_option: str = "--time=…"

    def lines(self) -> list[str]:
        """A table, and what to do next."""
        folder, timed = self.folder, bool(np.isfinite(self.first))
        items = "" if self.described is None else f", {folder.name}.item"
        used = {**self.columns, **(self.of_items if self.one_table else {})}
        counts = (self.users, "user"), (self.items, "item"), (self.interactions, "interaction")
        times = f"{_day(self.first)} to {_day(self.last)}"
        timeless = f"none: sequential models need them ({self.time_option})"
        model = "BPR" if not timed else "PAD" if self.described else "SASRec"  # PAD needs words
        arguments = [f"--model={model}", f"--dataset={folder.name}"]
        if model == "PAD" and (self.described or 0) < self.items:
            arguments.append("--missing_embedding=mean")  # it refuses items without a text
        if folder.parent != Path("dataset"):
            arguments.append(f"--data_path={folder.parent}")
        if 0 < self.unwanted < self.interactions:
            arguments.append('--val_interval={"label": "[1,inf)"}')
        rows = [
            ("written", f"{folder}/{folder.name}.inter{items}"),
            ("columns", ", ".join(f"{a} → {b}" for a, b in self.columns.items())),
            ("of items", ", ".join(f"{a} → {b}" for a, b in self.of_items.items())),
            ("unused", ", ".join(name for name in self.given if name not in used)),
            ("unused", self._unused_of_items()),
            ("size", ", ".join(counted(number, what) for number, what in counts)),
            ("times", times if timed else timeless),
            ("texts", self._texts() if items else ""),
            ("replaced", ", ".join(self.replaced)),
            *(("mind", problem) for problem in self.problems),
            ("mind", self._labels()),
            ("next", f"recbole-llm run {shlex.join(arguments)}"),
        ]
        return [f"{name:8} {text}" for name, text in rows if text]

    def __str__(self) -> str:
        return "\n".join(self.lines())

    def _labels(self) -> str:
        if not self.unwanted:
            return ""
        return (
            f"{counted(self.unwanted, 'row')} of label 0: without --val_interval a run takes them "
            f"for interactions like all others; docs/own-data.md says how labels are predicted"
        )

    def _unused_of_items(self) -> str:
        names = ", ".join(self.unused_of_items)
        return f"of items: {names} (--text=… says which columns are taken)" if names else ""

    def _texts(self) -> str:
        became = (kind.partition(":")[::2] for kind in self.of_items.values())
        read = [name for name, kind in became if kind in _TEXTS and name != "item_id"]
        source = f", from {', '.join(read)}" if read else ""
        parts = [f"of {self.described:,} of {self.items:,} items{source}"]
        more = self.unbought
        parts += [f"{counted(more, 'more item')} without interactions"] if more else []
        parts += [f"{counted(self.blank, 'row')} without text"] if self.blank else []
        return "; ".join(parts)


def _day(seconds: float) -> str:
    if abs(seconds) < _SMALL:
        return f"{seconds:g}"
    try:
        return datetime.fromtimestamp(seconds, tz=UTC).strftime("%Y-%m-%d")
    except (ValueError, OverflowError, OSError):
        return f"{seconds:g}"
