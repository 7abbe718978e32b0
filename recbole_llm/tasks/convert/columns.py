"""Which column of a user's table is what, and times in whatever form they are written."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import numpy as np
import numpy.typing as npt
from pandas import Series, to_datetime, to_numeric

from recbole_llm.core.errors import did_you_mean, one_line

# Spelt without case and signs; the first that is there is taken.
KNOWN = {
    "user": ("userid", "user", "customerid", "customer", "reviewerid", "uid", "visitorid",
             "clientid", "client", "buyerid", "memberid", "accountid", "sessionid"),
    "item": ("itemid", "item", "parentasin", "asin", "productid", "product", "sku", "movieid",
             "articleid", "trackid", "bookid", "songid", "iid"),
    "time": ("timestamp", "time", "datetime", "date", "unixreviewtime", "createdat", "createdon",
             "orderdate", "ordertime", "orderedat", "orderedon", "eventtime", "purchasedate",
             "purchasedat", "boughtat", "visitedat", "ts"),
    "rating": ("rating", "overall", "stars", "ratings"), "label": ("label",), "keep": (),
}  # fmt: skip
_UNITS = ((1e17, 1e9), (1e14, 1e6), (1e11, 1e3))  # from this size on, so many make a second
_SLASHES = re.compile(r"(\d{1,2})[/.-](\d{1,2})[/.-](\d{2,4})")
_DAYS = re.compile(r"(19|20)\d{6}")
Floats = npt.NDArray[np.float64]


def plain(name: str) -> str:
    """A column's name without case and signs, and without RecBole's type."""
    return re.sub(r"[^a-z0-9]", "", name.partition(":")[0].lower())


def find(role: str, given: str | None, columns: Sequence[str], where: object) -> str | None:
    """The column of a role: the one that is named, else one whose name says it.

    Raises:
        ValueError: the named one is not there.
    """
    if given is not None:
        if given not in columns:
            near = did_you_mean(given, columns)
            raise ValueError(
                f"--{role}: '{where}' has no column '{given}'; {near} its columns are "
                f"{', '.join(columns)}"
            )
        return given
    by_name = {plain(column): column for column in reversed(columns)}
    return next((by_name[name] for name in KNOWN[role] if name in by_name), None)


def require(role: str, given: str | None, columns: Sequence[str], where: object) -> str:
    """The same of a column that must be there."""
    found = find(role, given, columns, where)
    if found is None:
        raise ValueError(
            f"no column of '{where}' says that it is the {role}; name it with --{role}=…, "
            f"one of {', '.join(columns)}"
        )
    return found


@dataclass
class Times:
    """Texts to Unix seconds, all in the form that the first of them have.

    Args:
        form: a format of ``strptime``; None: found out.
    """

    form: str | None = None
    unit: float = 0.0  # numbers that make a second; 0: no numbers
    day_first: bool = False

    @classmethod
    def of(cls, texts: Series, form: str | None, where: object) -> Times:
        """The form of some texts.

        Raises:
            ValueError: dates that could mean two days, or no times at all.
        """
        texts = texts[texts != ""]
        if form is not None:
            _check_form(form)
        if form is not None or not len(texts):
            return cls(form)
        if texts.str.fullmatch(_DAYS).all():
            return cls("%Y%m%d")
        numbers = to_numeric(texts, errors="coerce")
        if numbers.notna().mean() > 0.5:
            size = float(numbers.abs().median())
            return cls(unit=next((unit for least, unit in _UNITS if size >= least), 1.0))
        found = cls(day_first=_day_first(texts, where))
        if np.isnan(found.seconds(texts)).all():
            raise ValueError(
                f"--time: '{where}' has times such as '{one_line(texts.iloc[0], 40)}', which are "
                f"neither numbers nor dates; give their form, such as --date-format='%d.%m.%y'"
            )
        return found

    def seconds(self, texts: Series) -> Floats:
        """Unix seconds, NaN where a text is no time, [N]; dates without a zone are UTC."""
        if self.unit:
            return np.asarray(to_numeric(texts, errors="coerce"), np.float64) / self.unit
        kind: dict[str, Any] = {"format": self.form or "mixed", "utc": True, "errors": "coerce"}
        if self.form is None:
            kind["dayfirst"] = self.day_first
        dates = to_datetime(Series(texts.to_numpy(), dtype=object), **kind)
        nanoseconds = dates.dt.as_unit("ns").astype("int64").to_numpy()
        return np.where(dates.isna(), np.nan, nanoseconds / 1e9)


def _check_form(form: str) -> None:
    try:
        datetime.strptime("", form)
    except ValueError as error:
        if "does not match" not in str(error) and "unconverted" not in str(error):
            raise ValueError(f"--date-format: {error}; such as %d/%m/%Y") from None


def _day_first(texts: Series, where: object) -> bool:
    parts = [found.groups() for text in texts if (found := _SLASHES.match(str(text)))]
    if not parts:
        return False
    first, second = (max(int(part[i]) for part in parts) for i in (0, 1))
    if (first > 12) == (second > 12):
        raise ValueError(
            f"--time: '{where}' has dates such as '{texts.iloc[0]}', which may be day/month or "
            f"month/day; say which with --date-format, such as '%d/%m/%Y'"
        )
    return first > 12
