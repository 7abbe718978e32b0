"""One pass each over a table of interactions and one of items, written as atomic files."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
from pandas import DataFrame, to_numeric, util

from recbole_llm.core.files import written_whole
from recbole_llm.data.check import PADDING
from recbole_llm.data.columns import Times, find, require
from recbole_llm.data.sources import LINE, Problems, Source
from recbole_llm.tasks.convert_summary import Roles, Summary
from recbole_llm.tasks.layouts import text_columns

WAY_OUT = "name another folder with --output"
_BREAKS = re.compile(r"[\t\r\n\v\f\0\x1c-\x1e\x85\u2028\u2029]+")
_NUMBER = re.compile(r"-?\d+\.\d+")


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

    def write(self) -> set[str]:
        """Write the ``.inter`` file; the items that it has."""
        folder = self.summary.folder
        with written_whole(folder / f"{folder.name}.inter", WAY_OUT) as file:
            for chunk in self.source.chunks():
                if not self.columns:
                    self._begin(chunk)
                    file.write(("\t".join(self._header()) + "\n").encode("utf-8"))
                file.write(_as_lines(self._usable(chunk)))
                self.progress(len(chunk))
            self._check()
        summary = self.summary
        summary.users, summary.items = len(self.users), len(self.items)
        summary.problems += [*self.source.problems, *self.problems]
        return self.items

    def _begin(self, chunk: DataFrame) -> None:
        names = [str(name) for name in chunk if name != LINE]
        roles, where = self.roles, self.source
        self.columns = {
            "user": require("user", roles.user, names, where),
            "item": require("item", roles.item, names, where),
        }
        for role, given in (("rating", roles.rating), ("time", roles.time)):
            column = find(role, given, names, where)
            if column is not None:
                self.columns[role] = column
        if "time" in self.columns:
            self.times = Times.of(chunk[self.columns["time"]], roles.date_format, where)
        fields = dict(zip(self.columns.values(), self._header(), strict=True))
        self.summary.columns.update(fields)
        self.summary.given = names

    def _header(self) -> list[str]:
        fields = {"user": "user_id:token", "item": "item_id:token", "rating": "rating:float"}
        return [{**fields, "time": "timestamp:float"}[role] for role in self.columns]

    def _usable(self, chunk: DataFrame) -> DataFrame:
        lines = chunk[LINE]
        rows = DataFrame({role: chunk[column] for role, column in self.columns.items()})
        kept = np.ones(len(rows), bool)
        for role in ("user", "item"):
            rows[role] = [_one_line(text) for text in rows[role]]
            kept &= self._without(
                f"left out, since they have no {role}", rows[role].isin(["", PADDING]), lines, kept
            )
        for role, parsed in (("time", self.times.seconds), ("rating", _numbers)):
            if role in rows:
                values = parsed(rows[role])
                what = f"left out, since their {role} cannot be read"
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


class Items:
    """One pass over the items."""

    def __init__(
        self,
        source: Source,
        roles: Roles,
        summary: Summary,
        bought: set[str],
        progress: Callable[[int], None],
        apart: bool,  # a table of their own, with one row an item
    ) -> None:
        self.source, self.roles, self.summary, self.progress = source, roles, summary, progress
        self.apart = apart
        self.bought, self.problems = bought, Problems()
        self.item, self.kinds = "", dict[str, str]()
        self.seen: set[str] = set()

    def write(self) -> None:
        """Write the ``.item`` file."""
        folder, own = self.summary.folder, Problems()
        self.source.problems = own  # what was wrong with interactions was said
        with written_whole(folder / f"{folder.name}.item", WAY_OUT) as file:
            for chunk in self.source.chunks():
                if not self.item:
                    self._begin(chunk)
                    header = ["item_id:token", *(f"{n}:{k}" for n, k in self._fields().items())]
                    file.write(("\t".join(header) + "\n").encode("utf-8"))
                file.write(_as_lines(self._rows(chunk)))
                self.progress(len(chunk))
        self.summary.described = len(self.bought & self.seen)
        self.summary.listed = len(self.seen - {"", PADDING})
        without = sorted(self.bought - self.seen)
        self.problems.add("items with interactions but no row", without)
        self.summary.problems += [f"'{self.source}': {what}" for what in (*own, *self.problems)]

    def _begin(self, chunk: DataFrame) -> None:
        names = [str(name) for name in chunk if name != LINE]
        given = self.roles.item if self.roles.item in names else None
        self.item = require("item", given, names, self.source)
        known = text_columns(names) if self.roles.text is None else self.roles.text
        texts = [name for name in names if name != self.item] if known is None else list(known)
        for name in texts:
            if name not in names:
                raise ValueError(
                    f"--text: '{self.source}' has no column '{name}'; its columns are "
                    f"{', '.join(names)}"
                )
        self.kinds = {name: _kind(chunk[name]) for name in texts}
        self.summary.columns.update(
            zip(self.kinds, (f"{n}:{k}" for n, k in self._fields().items()))
        )

    def _fields(self) -> dict[str, str]:
        """{name of the field: its type}."""
        names = (name.partition(":")[0] for name in self.kinds)
        return dict(zip((_field(name) for name in names), self.kinds.values()))

    def _rows(self, chunk: DataFrame) -> DataFrame:
        ids = [_one_line(text) for text in chunk[self.item]]
        columns = {"item": ids}
        for name in self.kinds:
            columns[name] = [self._safe(text) for text in chunk[name]]
        kept = []
        for token in ids:
            kept.append(token not in ("", PADDING) and token not in self.seen)
            self.seen.add(token)
        if self.apart:
            again = [token for token, new in zip(ids, kept) if not new]
            self.problems.add("left out, since the item has a row or no id", again)
        rows = DataFrame(columns)[kept]
        self.summary.blank += int((rows[list(self.kinds)] == "").all(axis=1).sum())
        return rows

    def _safe(self, text: str) -> str:
        safe = _one_line(text)
        if _BREAKS.search(text):
            self.problems.add("tabs or line ends in texts, spaces now", [repr(safe[:20])])
        return safe


def _one_line(text: str) -> str:
    return _BREAKS.sub(" ", text).strip()


def _field(name: str) -> str:
    return re.sub(r"\W+", "_", name).strip("_") or "text"


def _kind(column: Any) -> str:
    """The type of an items' column: numbers with a point, single words, or texts."""
    there = [text for text in column if text]
    if there and all(_NUMBER.fullmatch(text) for text in there):
        return "float"
    return "token_seq" if any(" " in text.strip() for text in there) else "token"


def _numbers(texts: Any) -> Any:
    return to_numeric(texts, errors="coerce").to_numpy(np.float64)


def _as_lines(rows: DataFrame) -> bytes:
    """Rows as lines of an atomic file, quoted as CSV where a text has quotes."""
    text = io.StringIO()
    writer = csv.writer(text, delimiter="\t", lineterminator="\n")
    writer.writerows(zip(*(_written(rows[name]) for name in rows)))
    return text.getvalue().encode("utf-8", "replace")


def _written(column: Any) -> Iterable[str]:
    if column.dtype != np.float64:
        return column.tolist()  # type: ignore[no-any-return]
    return [str(int(v)) if v == int(v) else repr(float(v)) for v in column]
