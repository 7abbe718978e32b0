"""Which columns of the interactions become which fields, and how their numbers are read."""

from __future__ import annotations

from collections.abc import Container

import numpy as np
from pandas import DataFrame, Series, to_numeric

from recbole_llm.core.arrays import FloatArray
from recbole_llm.tasks.convert.columns import OPTIONAL, check_column, check_roles, find_column
from recbole_llm.tasks.convert.numbers import NumberFindings, Numbers, detect_numbers
from recbole_llm.tasks.convert.rows import field_name
from recbole_llm.tasks.convert.sources import Source
from recbole_llm.tasks.convert.summary import Roles, typed_column
from recbole_llm.tasks.convert.texts import LINE
from recbole_llm.tasks.convert.times import Times

_FIELDS = {
    "user": "user_id:token", "item": "item_id:token", "rating": "rating:float",
    "time": "timestamp:float", "label": "label:float",
}  # fmt: skip
_KINDS = ("token", "token_seq", "float")  # types of further columns
_FLAGS = {"true": "1", "false": "0"}


class Fields:
    """The fields of a table of interactions, determined from its first rows.

    Roles are those of `Roles`; the role of a further column to keep is its field with its type.

    Args:
        chunk: the first rows.
        without: optional roles for which no column is to be guessed.
    """

    def __init__(
        self, chunk: DataFrame, roles: Roles, source: Source, without: Container[str] = ()
    ) -> None:
        self.roles, self.source = roles, source
        self.names = [str(name) for name in chunk if name != LINE]
        self.columns: dict[str, str] = {}  # {role: column}
        self.guessed: set[str] = set()
        self._assign(without)
        self._keep()
        first = {role: chunk[column] for role, column in self.columns.items()}
        self.found = {role: _detect_form(first[role]) for role in first if self.is_number(role)}
        self.times: Times | None = None  # detected in the first chunk that has times

    def _assign(self, without: Container[str]) -> None:
        given = {role: getattr(self.roles, role) for role in ("user", "item", *OPTIONAL)}
        check_roles(
            {role: given[role] for role in ("user", "item", "time")}, self.names, self.source
        )
        for role, name in given.items():
            column = None if role in without else find_column(role, name, self.names, self.source)
            guessed = role in OPTIONAL and name is None
            if column is None or (guessed and column in self.roles.named()):
                continue
            self._take(role, column)
            if guessed:
                self.guessed.add(role)

    def _keep(self) -> None:
        keep = self.source.option("keep")
        for typed in self.roles.keep:
            name, kind = (typed, "") if typed in self.names else typed_column(typed)
            if kind not in ("", *_KINDS):
                raise ValueError(f"{keep}: '{typed}' has an unknown type; use {', '.join(_KINDS)}")
            column = check_column("keep", name, self.names, self.source)
            own = field_name(column, [field.partition(":")[0] for field in self.header()])
            self._take(f"{own}:{kind or 'token'}", column)

    def _take(self, role: str, column: str) -> None:
        for other, taken in self.columns.items():
            if column == taken:
                options = ", ".join(self.source.option(role) for role in _FIELDS)
                raise ValueError(
                    f"column '{column}' of '{self.source}' would be both {other} and {role}; name "
                    f"the columns with {options}"
                )
        self.columns[role] = column

    def header(self) -> list[str]:
        """The fields, with their types."""
        return [_FIELDS.get(role, role) for role in self.columns]

    def is_number(self, role: str) -> bool:
        """Whether a role's values are numbers other than times."""
        return role in ("rating", "label") or role.endswith(":float")

    def values(self, role: str, texts: Series) -> FloatArray:
        """A role's values [N], NaN where a text cannot be read."""
        if role == "time":
            values = self._seconds(texts)
        else:
            values = _values(texts, self.found[role].numbers)
        return np.where(np.isfinite(values), values, np.nan)

    def _seconds(self, texts: Series) -> FloatArray:
        if self.times is None:
            if (texts.str.strip() == "").all():
                return np.full(len(texts), np.nan)
            self.times = Times.of(texts, self.roles.date_format, self.source)
        return self.times.seconds(texts)

    def unread(self, role: str) -> str:
        """Why a text gave no value, as a clause."""
        form = self.roles.date_format
        if role == "time" and form is not None:
            return f"does not fit {self.source.option('date_format', form)}"
        return f"cannot be read{self.doubt(role)}"

    def doubt(self, role: str) -> str:
        """Why a role's numbers cannot be read in one way: a clause, or ""."""
        doubt = self.found[role].doubt if role in self.found else ""
        return f": {doubt}" if doubt else ""


def _values(texts: Series, numbers: Numbers | None) -> FloatArray:
    if numbers is None:
        values = _floats(texts)  # flags are rare, and replacing them takes longer than this
        return _floats(_without_flags(texts)) if np.isnan(values).any() else values
    plain = [_plain(text, numbers) for text in _without_flags(texts)]
    return _floats(Series(plain, dtype=object))


def _floats(texts: Series) -> FloatArray:
    return to_numeric(texts, errors="coerce").to_numpy(np.float64)


def _without_flags(texts: Series) -> Series:
    """Texts with numbers in place of true and false, as labels are often written."""
    return texts.str.strip().str.lower().map(_FLAGS).fillna(texts)


def _plain(text: str, numbers: Numbers) -> str | None:
    """A number for pandas, which also reads texts like 1e-3; None if it would misread the text."""
    rest = text if numbers.decimal == "." or "." not in text else None
    return numbers.plain(text) or rest


def _detect_form(texts: Series) -> NumberFindings:
    """How a column writes its numbers; by default as pandas reads them, if that fits all."""
    filled = _without_flags(texts[texts.str.strip() != ""])
    if to_numeric(filled, errors="coerce").notna().all():
        return NumberFindings()
    return detect_numbers(filled)
