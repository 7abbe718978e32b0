"""The roles of a converted table's columns, and the summary of a conversion."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from recbole_llm.core.lines import plural
from recbole_llm.features.contents.titles import find_title_field

_SMALL = 1e8  # smaller times, before 1973, are counters of events rather than seconds
_LIST = 10  # items in a ranked list of a run, and k of its valid_metric, by default
_TEXTS = ("token", "token_seq")  # types that item_prompt reads by default


@dataclass(frozen=True)
class Roles:
    """Columns by role; None: a column with a known name for the role.

    Args:
        user, item, time, rating, label: columns of the interactions; the items' file also has
            `item`, and the users' file `user`, or a column with a known name. ``none`` for time,
            rating or label: no column is guessed.
        keep: further columns of the interactions, with ids or words; columns of several words are
            given as ``name:token_seq``, and columns of numbers as ``name:float``, whose unreadable
            values are left empty.
        text: columns that describe an item; None: all of the items' file.
        user_text: columns that describe a user; None: all of the users' file.
        date_format: of the times, as for ``strptime``; None: detected.
    """

    user: str | None = None
    item: str | None = None
    time: str | None = None
    rating: str | None = None
    label: str | None = None
    keep: Sequence[str] = ()
    text: Sequence[str] | None = None
    user_text: Sequence[str] | None = None
    date_format: str | None = None

    def named(self) -> set[str]:
        """The columns that the user gave a role, or keeps."""
        given = (self.user, self.item, self.time, self.rating, self.label, *self.keep)
        kept = (typed_column(typed)[0] for typed in self.keep)
        return {name for name in (*given, *kept) if name is not None}


def typed_column(typed: str) -> tuple[str, str]:
    """Name and type of a column to keep, as ``price:float``; a name may hold a colon, too."""
    name, _, kind = typed.rpartition(":")
    return (name, kind) if name else (typed, "")


@dataclass
class Descriptions:
    """The outcome of converting a table of items or users."""

    columns: dict[str, str] = field(default_factory=dict)  # {column: what it became}
    unused: Sequence[str] = ()  # columns of a separate table that became no field
    apart: bool = True  # False: the interactions' table has the descriptions
    described: int = 0  # ids with interactions that have a text
    unknown: int = 0  # rows without interactions
    blank: int = 0  # rows without any text

    def text_fields(self) -> list[str]:
        """The fields that describe in words, without the id."""
        typed = (field.partition(":")[::2] for field in self.columns.values())
        ids = ("item_id", "user_id")
        return [name for name, kind in typed if kind in _TEXTS and name not in ids]


@dataclass(repr=False)
class Summary:
    """The outcome of a conversion."""

    folder: Path
    columns: dict[str, str] = field(default_factory=dict)  # {interactions' column: what it became}
    given: Sequence[str] = ()  # the columns of the interactions
    of_items: Descriptions | None = None  # None: no such file was written
    of_users: Descriptions | None = None  # None: no such file was written
    users: int = 0
    items: int = 0
    interactions: int = 0
    unwanted: int = 0  # interactions with a label below 1
    first: float = float("nan")  # Unix seconds; NaN without times
    last: float = float("nan")  # the same
    replaced: list[str] = field(default_factory=list)  # names of files that were there before
    problems: list[str] = field(default_factory=list)  # of interactions, items, users and files
    time_option: str = "--time=…"  # the option that names the column of times

    def __repr__(self) -> str:
        return "\n".join(self.lines())

    def lines(self) -> list[str]:
        """The summary in lines, with a next command at the end."""
        folder, timed = self.folder, bool(np.isfinite(self.first))
        files = ", ".join(f"{folder.name}.{kind}" for kind in self.written())
        items, users = (table or Descriptions() for table in (self.of_items, self.of_users))
        used = {**self.columns, **({} if items.apart else items.columns)}
        counts = (self.users, "user"), (self.items, "item"), (self.interactions, "interaction")
        times = f"{_format_day(self.first)} to {_format_day(self.last)}"
        timeless = f"none: sequential models need them ({self.time_option})"
        same_time = "all times are the same: a run takes the order of the rows for that of time"
        model = "BPR" if not timed else "PAD" if items.described else "SASRec"  # PAD needs texts
        arguments = [f"--model={model}", f"--dataset={folder.name}"]
        if model == "PAD" and items.described < self.items:
            arguments.append("--missing_embedding=mean")  # it refuses items without a text
        if self.items < _LIST:  # a run refuses lists longer than the catalogue
            arguments += [f"--topk={self.items}", f"--valid_metric=MRR@{self.items}"]
        if folder.parent != Path("dataset"):
            arguments.append(f"--data_path={folder.parent}")
        if 0 < self.unwanted < self.interactions:
            arguments.append('--val_interval={"label": "[1,inf)"}')
        rows = [
            ("written", f"{folder}/{files}"),
            ("columns", _describe_columns(self.columns)),
            ("of items", _describe_columns(items.columns)),
            ("of users", _describe_columns(users.columns)),
            ("unused", ", ".join(name for name in self.given if name not in used)),
            ("unused", _describe_unused("items", items, "--text")),
            ("unused", _describe_unused("users", users, "--user-text")),
            ("size", ", ".join(plural(number, what) for number, what in counts)),
            ("times", times if timed else timeless),
            ("texts", self._describe_texts(self.of_items) if self.of_items else ""),
            ("titles", _describe_titles(items.text_fields())),
            ("replaced", ", ".join(self.replaced)),
            *(("mind", problem) for problem in self.problems),
            ("mind", self._describe_labels()),
            ("mind", same_time if self.first == self.last and self.interactions > 1 else ""),
            ("next", f"recbole-llm run {shlex.join(arguments)}"),
        ]
        return [f"{name:8} {text}" for name, text in rows if text]

    def written(self) -> list[str]:
        """The kinds of atomic files: ``inter``, ``item``, ``user``."""
        tables = {"item": self.of_items, "user": self.of_users}
        return ["inter", *(kind for kind, table in tables.items() if table)]

    def _describe_labels(self) -> str:
        if not self.unwanted:
            return ""
        return (
            f"{plural(self.unwanted, 'row')} of label 0: without --val_interval a run takes them "
            f"for interactions like all others; docs/own-data.md says how labels are predicted"
        )

    def _describe_texts(self, items: Descriptions) -> str:
        read = ", ".join(items.text_fields())
        source = f", from {read}" if read else ""
        parts = [f"of {items.described:,} of {self.items:,} items{source}"]
        more = items.unknown
        parts += [f"{plural(more, 'more item')} without interactions"] if more else []
        parts += [f"{plural(items.blank, 'row')} without text"] if items.blank else []
        return "; ".join(parts)


def _describe_columns(columns: dict[str, str]) -> str:
    return ", ".join(f"{column} → {field}" for column, field in columns.items())


def _describe_titles(fields: Sequence[str]) -> str:
    """Which of several fields names items; "" where it goes without saying."""
    field = find_title_field(fields)
    return f"from {field} (run --item_title_field=… takes another)" if len(fields) > 1 else ""


def _describe_unused(what: str, table: Descriptions, option: str) -> str:
    names = ", ".join(table.unused)
    return f"of {what}: {names} ({option}=… says which columns are taken)" if names else ""


def _format_day(seconds: float) -> str:
    if abs(seconds) < _SMALL:
        return f"{seconds:g}"
    try:
        return datetime.fromtimestamp(seconds, tz=UTC).strftime("%Y-%m-%d")
    except (ValueError, OverflowError, OSError):
        return f"{seconds:g}"
