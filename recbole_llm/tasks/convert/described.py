"""One pass over a table of items or users, which writes an atomic file."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from pandas import DataFrame

from recbole_llm.core.checkpoints.tokens import PADDING
from recbole_llm.core.files import OTHER_FOLDER, written_whole
from recbole_llm.core.problems import Problems
from recbole_llm.tasks.convert.columns import (
    check_column,
    check_roles,
    find_column,
    normalize_name,
)
from recbole_llm.tasks.convert.headers import NAMELESS
from recbole_llm.tasks.convert.layouts import text_columns
from recbole_llm.tasks.convert.numbers import Numbers, detect_numbers
from recbole_llm.tasks.convert.rows import (
    BREAKS,
    as_lines,
    excerpt,
    field_name,
    left_out_for_id,
    without_breaks,
)
from recbole_llm.tasks.convert.sources import Source, late_columns_problem
from recbole_llm.tasks.convert.summary import Descriptions, Roles, Summary
from recbole_llm.tasks.convert.texts import LINE

_A = {"item": "an item", "user": "a user"}
_NUMBER = re.compile(r"-?\d+(\.\d+)?([eE][+-]?\d+)?")

_ID = re.compile(r"0*(\d+?)(\.0+)?")


def _as_number(token: str) -> str:
    """An id as tables write it that hold ids as numbers: 12 for 012 and 12.0."""
    found = _ID.fullmatch(token)
    return found[1] if found else token


@dataclass
class DescriptionPass:
    """One pass over the rows that describe items, or users."""

    of: Literal["item", "user"]  # what a row describes
    source: Source
    roles: Roles
    known: set[str]  # ids that have interactions
    summary: Summary
    progress: Callable[[int], None]  # called after each chunk with its number of rows
    apart: bool = True  # whether this is a separate table, with one row per id
    found: Descriptions = field(default_factory=Descriptions)
    problems: Problems = field(default_factory=Problems)
    id: str = ""  # the column of the ids
    takes_all: bool = False  # whether all columns are taken
    kinds: dict[str, str] = field(default_factory=dict)  # {column: type}
    numbers: dict[str, Numbers] = field(default_factory=dict)  # {column: form of its numbers}
    seen: set[str] = field(default_factory=set)
    blank: set[str] = field(default_factory=set)  # ids whose row has no text
    held: dict[str, list[Any]] = field(default_factory=dict)  # rows of interactions without text

    @contextmanager
    def writing(self) -> Iterator[Descriptions]:
        """Write the ``.item`` or ``.user`` file, which is put in place if the block succeeds."""
        self.source.problems = Problems()  # those of interactions were reported
        folder = self.summary.folder
        with written_whole(folder / f"{folder.name}.{self.of}", OTHER_FOLDER) as file:
            for chunk in self.source.chunks():
                if not self.id:
                    self._choose_columns(chunk)
                    header = "\t".join([f"{self.of}_id:token", *self._typed_fields()])
                    file.write(f"{header}\n".encode())
                file.write(as_lines(self._convert_rows(chunk)))
                self.progress(len(chunk))
            if not self.id:
                option = self.source.option(f"{self.of}s")
                found = "; ".join(self.source.problems)
                what = f": not one row can be used: {found}" if found else " has no rows"
                raise ValueError(f"'{self.source}'{what}; leave {option} out")
            file.write(as_lines(self._rows_without_text()))
            self._complete_summary()
            file.flush()  # a full disk fails here, before any file is in place
            yield self.found

    def _complete_summary(self) -> None:
        found, without = self.found, sorted(self.known - self.seen)
        found.described = len((self.known & self.seen) - self.blank)
        found.unknown = len(self.seen - self.known - {"", PADDING})
        found.blank = len(self.blank)
        if self.takes_all:
            self.problems.add(late_columns_problem(), self.source.late)
        self.problems.add(f"{self.of}s with interactions but no row", without)
        if without:  # else the other rows need not be sorted
            rows = {_as_number(token): token for token in sorted(self.seen - self.known)}
            pairs = ((token, rows.get(_as_number(token))) for token in without)
            what = "ids that equal a row's only as numbers, to be written alike in both tables"
            self.problems.add(what, [f"{token} and {row}" for token, row in pairs if row])
        problems = [*(self.source.problems if self.apart else ()), *self.problems]
        self.summary.problems += [f"'{self.source}': {what}" for what in problems]

    def _choose_columns(self, chunk: DataFrame) -> None:
        names = [str(name) for name in chunk if name != LINE]
        own: str | None = getattr(self.roles, self.of)
        if own not in names:
            called_id = (name for name in names if normalize_name(name) == "id")
            own = find_column(self.of, None, names, self.source) or next(called_id, None)
        check_roles({self.of: own}, names, self.source)
        self.id = own or ""
        option = "text" if self.of == "item" else "user_text"
        known: Sequence[str] | None = getattr(self.roles, option)
        if known is None and self.of == "item":
            known = text_columns(names)
        self.takes_all = known is None
        nameless = [name for name in names if NAMELESS.fullmatch(name)] if known is None else []
        self.problems.add("columns without a name, left out", nameless)
        others = [name for name in names if name != self.id and name not in nameless]
        texts = others if known is None else list(known)
        for name in texts:
            check_column(option, name, names, self.source)
        self.kinds = {name: self._guess_type(name, chunk[name]) for name in texts}
        ids = {self.id: f"{self.of}_id:token"} if self.apart else {}
        self.found.columns = {**ids, **dict(zip(self.kinds, self._typed_fields()))}
        self.found.apart = self.apart
        self.found.unused = [name for name in others if name not in texts] if self.apart else []

    def _typed_fields(self) -> list[str]:
        """The fields of the columns, in order, with their types."""
        fields: dict[str, str] = {}
        for name, kind in self.kinds.items():
            fields[field_name(name, (f"{self.of}_id", *fields))] = kind
        return [f"{own}:{kind}" for own, kind in fields.items()]

    def _convert_rows(self, chunk: DataFrame) -> DataFrame:
        ids = [self._clean_text(text, "ids" if self.apart else "") for text in chunk[self.id]]
        columns = [ids]  # by position: a text column may have the name of the ids
        for name, kind in self.kinds.items():
            texts = chunk[name]
            if kind == "float":
                columns.append([self._read_number(text, self.numbers.get(name)) for text in texts])
            else:
                columns.append([self._clean_text(text, "texts") for text in texts])
        rows = DataFrame(dict(enumerate(columns)))
        rows[LINE] = chunk[LINE].to_numpy()
        words = [i for i, kind in enumerate(self.kinds.values(), 1) if kind != "float"]
        blank = (rows[words] == "").all(axis=1)
        if words and not self.apart:  # another interaction may have the text
            for row in rows[blank].to_numpy().tolist():
                self.held.setdefault(row[0], row[:-1])
            rows, blank = rows[~blank], blank[~blank]
        kept = np.array(self._mask_first_rows(rows[0], rows[LINE]), bool)
        self.blank.update(rows[0][blank & kept])
        return rows.drop(columns=LINE)[kept]

    def _rows_without_text(self) -> DataFrame:
        """One row for each item that has no text in any of its interactions."""
        self.blank |= self.held.keys() - self.seen - {"", PADDING}
        self.seen |= self.blank
        return DataFrame([row for token, row in self.held.items() if token in self.blank])

    def _mask_first_rows(self, ids: Sequence[str], lines: Iterable[object]) -> list[bool]:
        """A mask of the first row of each id."""
        kept: list[bool] = []
        again: list[str] = []
        unusable: dict[str, list[str]] = {"": [], PADDING: []}
        for token, line in zip(ids, lines):
            kept.append(token not in unusable and token not in self.seen)
            if token in unusable:
                unusable[token].append(f"line {line}")
            elif token in self.seen:
                again.append(token)
            self.seen.add(token)
        if self.apart:
            self.problems.add(f"left out: {_A[self.of]} that has a row already", again)
            for token, places in unusable.items():
                self.problems.add(left_out_for_id(self.of, token), places)
        return kept

    def _read_number(self, text: str, numbers: Numbers | None) -> str:
        """A number in plain form; "" for other texts: the type is that of the first rows."""
        number: str | None = text.strip()
        if not number:
            return ""
        if numbers is not None:
            number = numbers.plain(text)
        elif not _NUMBER.fullmatch(number):
            number = None
        if number is None:
            what = "values that are no numbers, left empty"
            self.problems.add(what, [excerpt(text)])
        return number or ""

    def _clean_text(self, text: str, what: str) -> str:
        """A text without tabs and line ends, which are reported unless `what` is ""."""
        safe = without_breaks(text)
        if what and BREAKS.search(text):
            self.problems.add(f"tabs or line ends in {what}, now spaces", [excerpt(text)])
        return safe

    def _guess_type(self, name: str, column: Any) -> str:
        """The type of a column: numbers with decimals or units, single words, or texts."""
        filled = [text for text in column if text]
        # Whole numbers may be categories, such as years.
        if all(map(_NUMBER.fullmatch, filled)) and any("." in text for text in filled):
            return "float"
        found = detect_numbers(filled)
        if found.exact and found.numbers is not None and not found.other:
            self.numbers[name] = found.numbers
            return "float"
        if found.exact and found.most:
            why = found.doubt or f"{excerpt(found.other)} is no number"
            self.summary.problems.append(
                f"'{self.source}': '{name}' stays text, though it looks like numbers: {why}"
            )
        return "token_seq" if any(" " in without_breaks(text) for text in filled) else "token"
