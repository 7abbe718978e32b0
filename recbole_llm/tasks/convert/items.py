"""One pass over a table of items, written as an atomic file."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from pandas import DataFrame

from recbole_llm.core.files import OTHER_FOLDER, written_whole
from recbole_llm.core.tokens import PADDING
from recbole_llm.tasks.convert.columns import find, plain, require, there
from recbole_llm.tasks.convert.headers import NAMELESS
from recbole_llm.tasks.convert.layouts import text_columns
from recbole_llm.tasks.convert.numbers import Numbers, numbers_in
from recbole_llm.tasks.convert.rows import BREAKS, as_lines, field_name, unbroken
from recbole_llm.tasks.convert.sources import Problems, Source
from recbole_llm.tasks.convert.summary import Roles, Summary
from recbole_llm.tasks.convert.texts import LINE

_NUMBER = re.compile(r"-?\d+(\.\d+)?")


@dataclass
class Items:
    """One pass over the items."""

    source: Source
    roles: Roles
    summary: Summary
    bought: set[str]
    progress: Callable[[int], None]
    apart: bool  # a table of their own, with one row an item
    problems: Problems = field(default_factory=Problems)
    item: str = ""  # the column of the ids
    kinds: dict[str, str] = field(default_factory=dict)  # {column: type}
    numbers: dict[str, Numbers] = field(default_factory=dict)  # {column: its own form of numbers}
    seen: set[str] = field(default_factory=set)
    blank: set[str] = field(default_factory=set)  # items whose row has no text

    def write(self) -> None:
        """Write the ``.item`` file."""
        folder = self.summary.folder
        self.source.problems = Problems()  # what was wrong with interactions was said
        with written_whole(folder / f"{folder.name}.item", OTHER_FOLDER) as file:
            for chunk in self.source.chunks():
                if not self.item:
                    self._begin(chunk)
                    header = "\t".join(["item_id:token", *self._fields()])
                    file.write(f"{header}\n".encode())
                file.write(as_lines(self._rows(chunk)))
                self.progress(len(chunk))
        self.summary.described = len((self.bought & self.seen) - self.blank)
        self.summary.unbought = len(self.seen - self.bought - {"", PADDING})
        self.summary.blank = len(self.blank)
        without = sorted(self.bought - self.seen)
        self.problems.add("items with interactions but no row", without)
        found = [*(self.source.problems if self.apart else ()), *self.problems]
        self.summary.problems += [f"'{self.source}': {what}" for what in found]

    def _begin(self, chunk: DataFrame) -> None:
        names = [str(name) for name in chunk if name != LINE]
        given = self.roles.item if self.roles.item in names else None
        if not (given or find("item", None, names, self.source)):
            given = next((name for name in names if plain(name) == "id"), None)
        require({"item": given}, names, self.source)
        self.item = find("item", given, names, self.source) or ""
        known = text_columns(names) if self.roles.text is None else self.roles.text
        nameless = [name for name in names if NAMELESS.fullmatch(name)] if known is None else []
        self.problems.add("columns without a name, left out", nameless)
        others = [name for name in names if name != self.item and name not in nameless]
        texts = others if known is None else list(known)
        for name in texts:
            there("text", name, names, self.source)
        self.summary.unused_of_items = [n for n in others if n not in texts] if self.apart else []
        self.kinds = {name: self._kind(name, chunk[name]) for name in texts}
        own = {self.item: "item_id:token"} if self.apart else {}
        self.summary.of_items = {**own, **dict(zip(self.kinds, self._fields()))}
        self.summary.one_table = not self.apart

    def _fields(self) -> list[str]:
        """The fields of the columns, in order, with their types."""
        fields: dict[str, str] = {}
        for name, kind in self.kinds.items():
            fields[field_name(name, ("item_id", *fields))] = kind
        return [f"{own}:{kind}" for own, kind in fields.items()]

    def _rows(self, chunk: DataFrame) -> DataFrame:
        ids = [self._safe(text, "ids" if self.apart else "") for text in chunk[self.item]]
        columns = [ids]  # without names: a column may be called as the ids are
        for name, kind in self.kinds.items():
            texts = chunk[name]
            if kind == "float":
                columns.append([self._number(text, self.numbers.get(name)) for text in texts])
            else:
                columns.append([self._safe(text, "texts") for text in texts])
        kept = []
        for token in ids:
            kept.append(token not in ("", PADDING) and token not in self.seen)
            self.seen.add(token)
        if self.apart:
            again = [token for token, new in zip(ids, kept) if not new]
            self.problems.add("left out: an item that has a row already, or none", again)
        rows = DataFrame(dict(enumerate(columns)))[kept]
        words = [i for i, kind in enumerate(self.kinds.values(), 1) if kind != "float"]
        self.blank.update(rows[0][(rows[words] == "").all(axis=1)])
        return rows

    def _number(self, text: str, numbers: Numbers | None) -> str:
        """The type of a column is that of its beginning."""
        number: str | None = text.strip()
        if not number:
            return ""
        if numbers is not None:
            number = numbers.plain(text)
        elif not _NUMBER.fullmatch(number):
            number = None
        if number is None:
            what = "values that are no numbers, left empty"
            self.problems.add(what, [repr(text.strip()[:20])])
        return number or ""

    def _safe(self, text: str, what: str) -> str:
        """A text without breaks, which are told; "": those of interactions were told there."""
        safe = unbroken(text)
        if what and BREAKS.search(text):
            self.problems.add(f"tabs or line ends in {what}, spaces now", [repr(safe[:20])])
        return safe

    def _kind(self, name: str, column: Any) -> str:
        """The type of a column: numbers with decimals or units, single words, or texts."""
        filled = [text for text in column if text]
        # Whole numbers may be names, such as years.
        if all(map(_NUMBER.fullmatch, filled)) and any("." in text for text in filled):
            return "float"
        found = numbers_in(filled)
        if found.exact and found.numbers is not None and not found.other:
            self.numbers[name] = found.numbers
            return "float"
        if found.exact and found.most:
            why = found.doubt or f"'{unbroken(found.other)[:20]}' is none"
            self.summary.problems.append(
                f"'{self.source}': '{name}' stays text, though it looks like numbers: {why}"
            )
        return "token_seq" if any(" " in text.strip() for text in filled) else "token"
