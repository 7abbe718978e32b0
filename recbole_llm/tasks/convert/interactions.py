"""One pass over a table of interactions, which writes an atomic file."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, BinaryIO

import numpy as np
from pandas import DataFrame, Series, util

from recbole_llm.core.arrays import FloatArray
from recbole_llm.core.checkpoints.tokens import PADDING
from recbole_llm.core.digest import digest
from recbole_llm.core.files import OTHER_FOLDER, written_whole
from recbole_llm.core.problems import Problems
from recbole_llm.tasks.convert.columns import OPTIONAL, find_column
from recbole_llm.tasks.convert.fields import Fields
from recbole_llm.tasks.convert.rows import (
    BREAKS,
    as_lines,
    excerpt,
    left_out_for_id,
    without_breaks,
)
from recbole_llm.tasks.convert.sources import Source, late_columns_problem
from recbole_llm.tasks.convert.summary import Roles, Summary
from recbole_llm.tasks.convert.texts import LINE


class _WrongGuess(Exception):
    """A column that was guessed has a text that is no number."""

    def __init__(self, role: str, why: str) -> None:
        super().__init__(why)
        self.role, self.why = role, why


class Interactions:
    """One pass over the interactions, and another for each guess that proves wrong."""

    def __init__(
        self, source: Source, roles: Roles, summary: Summary, progress: Callable[[int], None]
    ) -> None:
        self.source, self.roles, self.summary, self.progress = source, roles, summary, progress
        self.wrong: dict[str, str] = {}  # {role: why the guessed column is not taken}
        self._start()

    def _start(self) -> None:
        self.source.problems = Problems()
        self.problems, self.seen = Problems(), _Seen()
        self.users: set[str] = set()
        self.items: set[str] = set()
        self.fields: Fields | None = None
        self.summary.interactions = self.summary.unwanted = 0
        self.summary.first = self.summary.last = float("nan")

    def column(self, role: str) -> str:
        """The column of a role that every table must have."""
        assert self.fields is not None
        return self.fields.columns[role]

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Write the ``.inter`` file, which is put in place if the block succeeds."""
        folder = self.summary.folder
        with written_whole(folder / f"{folder.name}.inter", OTHER_FOLDER) as file:
            while not self._write(file):  # a guess may prove wrong only in a late chunk
                file.seek(0)
                file.truncate()
                self._start()
            summary = self.summary
            if not summary.interactions:
                found = "; ".join([*self.source.problems, *self.problems]) or "it has no rows"
                raise ValueError(f"'{self.source}': not one row can be used: {found}")
            summary.users, summary.items = len(self.users), len(self.items)
            self.problems.add(late_columns_problem(), self._late_columns())
            summary.problems += [*self.source.problems, *self.wrong.values(), *self.problems]
            assert self.fields is not None
            summary.problems += self.fields.times.mixed_zones() if self.fields.times else []
            file.flush()  # a full disk fails here, before any file is in place
            yield

    def _write(self, file: BinaryIO) -> bool:
        """Make one pass; returns False if a wrong guess ended it."""
        try:
            for chunk in self.source.chunks():
                if self.fields is None:
                    self.fields = self._make_fields(chunk)
                    file.write(("\t".join(self.fields.header()) + "\n").encode("utf-8"))
                file.write(as_lines(self._usable_rows(chunk, self.fields)))
                self.progress(len(chunk))
        except _WrongGuess as guess:
            self.wrong[guess.role] = guess.why
            return False
        return True

    def _late_columns(self) -> list[str]:
        """Columns that would have been guessed to have a role if the first rows had them."""
        assert self.fields is not None
        open_roles = [
            role
            for role in OPTIONAL
            if role not in self.fields.columns and getattr(self.roles, role) is None
        ]
        found = (find_column(role, None, self.source.late, self.source) for role in open_roles)
        return [column for column in found if column]

    def _make_fields(self, chunk: DataFrame) -> Fields:
        fields = Fields(chunk, self.roles, self.source, self.wrong)
        self.summary.columns = dict(zip(fields.columns.values(), fields.header(), strict=True))
        self.summary.given = fields.names
        return fields

    def _usable_rows(self, chunk: DataFrame, fields: Fields) -> DataFrame:
        lines = chunk[LINE]
        rows = DataFrame({role: chunk[column] for role, column in fields.columns.items()})
        kept = np.ones(len(rows), bool)
        for role in rows.columns:
            if role in ("user", "item") or role.endswith((":token", ":token_seq")):
                texts = rows[role]
                rows[role] = texts.str.strip()
                if BREAKS.search("".join(texts)):  # one search, since most tables have none
                    safe = [without_breaks(text) for text in texts]
                    rows[role] = Series(safe, texts.index, dtype=object)
                    what = f"tabs or line ends in '{fields.columns[role]}', now spaces"
                    self._mask_right(what, texts.str.contains(BREAKS), lines, kept, rows[role])
        for role in ("user", "item"):
            for token in ("", PADDING):
                what = left_out_for_id(role, token)
                kept &= self._mask_right(what, rows[role] == token, lines, kept)
        for role in rows.columns:
            if role == "time" or fields.is_number(role):
                values = fields.values(role, rows[role])
                kept &= self._mask_readable(role, values, rows[role], lines, kept, fields)
                rows[role] = values
        again = self.seen.add(_hash_rows(chunk.drop(columns=LINE)[kept]))
        rows = rows[kept][
            self._mask_right("left out, since they repeat another row", again, lines[kept], True)
        ]
        self._count_rows(rows)
        return rows

    def _mask_readable(
        self, role: str, values: FloatArray, texts: Series, lines: Any, kept: Any, fields: Fields
    ) -> Any:
        """A mask of the rows that need not be left out because of these values."""
        nan, column = np.isnan(values), fields.columns[role]
        if role.endswith(":float"):
            texts = texts.str.strip()
            what = f"values of '{column}' left empty, since they are no numbers"
            self._mask_right(f"{what}{fields.doubt(role)}", nan & (texts != ""), lines, kept, texts)
            return np.ones(len(values), bool)
        if role in fields.guessed and role != "time" and (nan & kept).any():
            first = int(np.flatnonzero(nan & kept)[0])
            raise _WrongGuess(
                role,
                f"column '{column}' is not taken for the {role}, since not all of its values are "
                f"numbers{fields.doubt(role)} (line {lines.iloc[first]}: "
                f"{excerpt(texts.iloc[first])}); "
                f"{self.source.option(role, column)} takes it, and leaves such rows out",
            )
        what = f"left out, since their {role} {fields.unread(role)}"
        return self._mask_right(what, nan, lines, kept, texts)

    def _mask_right(
        self, what: str, wrong: Any, lines: Any, kept: Any, texts: Series | None = None
    ) -> Any:
        """A mask of the rows that are not wrong; wrong rows that were kept so far are reported."""
        wrong = np.asarray(wrong, bool)
        new = wrong & kept
        places = [f"line {line}" for line in lines[new][:3]]
        if texts is not None:
            shown = [excerpt(text) if text else "" for text in texts[new][:3]]
            places = [f"{place}: {text}" if text else place for place, text in zip(places, shown)]
        self.problems.add(what, places, int(new.sum()))
        return ~wrong

    def _count_rows(self, rows: DataFrame) -> None:
        self.users.update(rows["user"])
        self.items.update(rows["item"])
        self.summary.interactions += len(rows)
        if "label" in rows:
            self.summary.unwanted += int((rows["label"] < 1).sum())
        if "time" in rows and len(rows):
            times = rows["time"]
            self.summary.first = float(np.fmin(self.summary.first, times.min()))
            self.summary.last = float(np.fmax(self.summary.last, times.max()))


def _hash_rows(rows: DataFrame) -> Any:
    """A hash of each row's values in all columns of the file, uint64 [N]. Empty values count as
    missing columns, since later chunks of JSON lines may have further columns."""
    total = np.zeros(len(rows), np.uint64)
    for name, texts in rows.items():
        key = digest(str(name))[:16]
        # Most columns have few equal values, so finding these takes longer than hashing all.
        values = util.hash_array(texts.to_numpy(object), hash_key=key, categorize=False)
        total += np.where(texts == "", np.uint64(0), values)
    return total


class _Seen:
    """The 64-bit hashes seen so far, 8 bytes each."""

    def __init__(self) -> None:
        self.sorted: list[Any] = []

    def add(self, hashes: Any) -> Any:
        """Add hashes; returns bool [N], whether each was seen before, in this call or another."""
        values, first = np.unique(hashes, return_index=True)
        there = np.zeros(len(values), bool)
        for known in self.sorted:
            at = np.searchsorted(known, values).clip(max=len(known) - 1)
            there |= known[at] == values
        self._keep(values[~there])
        again = np.ones(len(hashes), bool)
        again[first] = there
        return again

    def _keep(self, values: Any) -> None:
        """Store sorted hashes in a few arrays of growing sizes: with one array for each call, each
        lookup would take longer than the last."""
        while self.sorted and len(self.sorted[-1]) <= 2 * len(values):
            values = np.sort(np.concatenate([self.sorted.pop(), values]), kind="stable")
        if len(values):
            self.sorted.append(values)
