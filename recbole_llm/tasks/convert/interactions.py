"""One pass over a table of interactions, written as an atomic file."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from pandas import DataFrame, to_numeric, util

from recbole_llm.core.files import OTHER_FOLDER, written_whole
from recbole_llm.core.tokens import PADDING
from recbole_llm.tasks.convert.columns import Times, find, require
from recbole_llm.tasks.convert.rows import as_lines, field_name, one_line
from recbole_llm.tasks.convert.sources import LINE, Problems, Source
from recbole_llm.tasks.convert.summary import Roles, Summary

_FIELDS = {
    "user": "user_id:token", "item": "item_id:token", "rating": "rating:float",
    "time": "timestamp:float", "label": "label:float",
}  # fmt: skip


class Interactions:
    """One pass over the interactions."""

    def __init__(
        self, source: Source, roles: Roles, summary: Summary, progress: Callable[[int], None]
    ) -> None:
        self.source, self.roles, self.summary, self.progress = source, roles, summary, progress
        self.problems, self.seen = Problems(), _Seen()
        self.users: set[str] = set()
        self.items: set[str] = set()
        self.columns: dict[str, str] = {}  # {role: column}
        self.times = Times()

    @contextmanager
    def written(self) -> Iterator[set[str]]:
        """Write the ``.inter`` file. The block gets its items, and the file is put in place when
        the block ends well."""
        folder = self.summary.folder
        with written_whole(folder / f"{folder.name}.inter", OTHER_FOLDER) as file:
            for chunk in self.source.chunks():
                if not self.columns:
                    self._begin(chunk)
                    file.write(("\t".join(self._header()) + "\n").encode("utf-8"))
                file.write(as_lines(self._usable(chunk)))
                self.progress(len(chunk))
            self._check()
            summary = self.summary
            summary.users, summary.items = len(self.users), len(self.items)
            summary.problems += [*self.source.problems, *self.problems]
            yield self.items

    def _begin(self, chunk: DataFrame) -> None:
        names = [str(name) for name in chunk if name != LINE]
        roles, where = self.roles, self.source
        for role in ("user", "item"):
            self._take(role, require(role, getattr(roles, role), names, where))
        for role in ("rating", "time", "label"):
            column = find(role, getattr(roles, role), names, where)
            guessed = getattr(roles, role) is None
            if column is not None and not (guessed and column in roles.named()):
                self._take(role, column)
        for typed in roles.keep:
            # A column's own name may hold a colon.
            name, _, kind = (typed, "", "") if typed in names else typed.partition(":")
            if kind not in ("", "token", "float"):
                raise ValueError(f"--keep: '{typed}' is of no type; token and float are there")
            column = require("keep", name, names, where)
            self._take(f"{field_name(column)}:{kind or 'token'}", column)
        if "time" in self.columns:
            self.times = Times.of(chunk[self.columns["time"]], roles.date_format, where)
        fields = dict(zip(self.columns.values(), self._header(), strict=True))
        self.summary.columns.update(fields)
        self.summary.given = names

    def _take(self, role: str, column: str) -> None:
        """Let a column be read for a role, or, of one that is kept, as a field and its type."""
        for other, taken in self.columns.items():
            if column == taken:
                raise ValueError(
                    f"column '{column}' of '{self.source}' would be both {other} and {role}; name "
                    f"the columns with --user, --item, --time, --rating, --label"
                )
        self.columns[role] = column

    def _header(self) -> list[str]:
        return [_FIELDS.get(role, role) for role in self.columns]

    def _usable(self, chunk: DataFrame) -> DataFrame:
        lines = chunk[LINE]
        rows = DataFrame({role: chunk[column] for role, column in self.columns.items()})
        kept = np.ones(len(rows), bool)
        for role in rows.columns:
            if role in ("user", "item") or role.endswith(":token"):
                rows[role] = [one_line(text) for text in rows[role]]
        for role in ("user", "item"):
            kept &= self._without(
                f"left out, since they have no {role}", rows[role].isin(["", PADDING]), lines, kept
            )
        for role in rows.columns:
            if role in ("time", "rating", "label") or role.endswith(":float"):
                values = (self.times.seconds if role == "time" else _numbers)(rows[role])
                what = f"left out, since their {role.partition(':')[0]} cannot be read"
                kept &= self._without(what, ~np.isfinite(values), lines, kept)
                rows[role] = values
        rows, lines = rows[kept], lines[kept]
        new = ~self._repeated(chunk.drop(columns=LINE)[kept], lines)
        rows = rows[new]
        self._count(rows)
        return rows

    def _without(self, what: str, wrong: Any, lines: Any, kept: Any) -> Any:
        """A mask of the rows that are not wrong; those that are, and were not yet, are counted."""
        wrong = np.asarray(wrong, bool)
        places = [f"line {line}" for line in lines[wrong & kept][:3]]
        self.problems.add(what, places, int((wrong & kept).sum()))
        return ~wrong

    def _repeated(self, rows: DataFrame, lines: Any) -> Any:
        """Which rows were there before, in every column of the file: bool [n]."""
        hashes = util.hash_pandas_object(rows.astype(str), index=False)
        again = self.seen.add(hashes.to_numpy())
        places = [f"line {line}" for line in lines[again][:3]]
        self.problems.add("left out, since they repeat another row", places, int(again.sum()))
        return again

    def _count(self, rows: DataFrame) -> None:
        self.users.update(rows["user"])
        self.items.update(rows["item"])
        self.summary.interactions += len(rows)
        if "time" in rows and len(rows):
            times = rows["time"]
            self.summary.first = float(np.fmin(self.summary.first, times.min()))
            self.summary.last = float(np.fmax(self.summary.last, times.max()))

    def _check(self) -> None:
        if not self.summary.interactions:
            found = "; ".join([*self.source.problems, *self.problems]) or "it has no rows"
            raise ValueError(f"'{self.source}': not one row can be used: {found}")


class _Seen:
    """Which 64-bit hashes were there before; 8 bytes each."""

    def __init__(self) -> None:
        self.sorted: list[Any] = []

    def add(self, hashes: Any) -> Any:
        """Take hashes in; bool [N], whether each was there, earlier ones of the same call too."""
        values, first, which = np.unique(hashes, return_index=True, return_inverse=True)
        there = np.zeros(len(values), bool)
        for known in self.sorted:
            at = np.searchsorted(known, values).clip(max=len(known) - 1)
            there |= known[at] == values
        self._keep(values[~there])
        again = np.ones(len(hashes), bool)
        again[first] = there
        return again

    def _keep(self, values: Any) -> None:
        """Put sorted hashes with the others, in few arrays of growing sizes: with one for each call
        a look at all of them would take longer and longer."""
        while self.sorted and len(self.sorted[-1]) <= 2 * len(values):
            values = np.sort(np.concatenate([self.sorted.pop(), values]), kind="stable")
        if len(values):
            self.sorted.append(values)


def _numbers(texts: Any) -> Any:
    return to_numeric(texts, errors="coerce").to_numpy(np.float64)
