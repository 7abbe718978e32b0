"""Which column of a user's table is what, and times in whatever form they are written."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import numpy as np
import numpy.typing as npt
from pandas import Series, to_datetime, to_numeric

from recbole_llm.core.errors import did_you_mean, one_line
from recbole_llm.tasks.convert.sources import Source

# Spelt without case and signs; the first that is there is taken.
KNOWN = {
    "user": ("userid", "user", "customerid", "customer", "reviewerid", "uid", "visitorid",
             "clientid", "client", "buyerid", "memberid", "accountid", "sessionid"),
    "item": ("itemid", "item", "parentasin", "asin", "productid", "product", "sku", "movieid",
             "articleid", "trackid", "bookid", "songid", "iid"),
    "time": ("timestamp", "datetime", "date", "unixreviewtime", "createdat", "createdon",
             "orderdate", "ordertime", "orderedat", "orderedon", "eventtime", "purchasedate",
             "purchasedat", "boughtat", "visitedat", "ts", "time"),
    "rating": ("rating", "overall", "stars", "ratings"), "label": ("label",), "keep": (),
}  # fmt: skip
OPTIONAL = ("rating", "time", "label")
NONE = "none"  # given for one of these: no column is to be guessed
_UNITS = ((1e17, 1e9), (1e14, 1e6), (1e11, 1e3))  # from this size on, so many make a second
_CLOCK = re.compile(r"\s*\d{1,2}:\d{2}(:\d{2}(\.\d+)?)?\s*([AaPp]\.?[Mm]\.?)?\s*")
_SLASHES = re.compile(r"(\d{1,2})([/.-])(\d{1,2})([/.-])(\d{2,4})")
_YEAR_FIRST = re.compile(r"\s*\d{4}\D")  # which is never the day or the month
_ZONE = re.compile(r"\s*(?:GMT|UTC)([+-]\d{2}:?\d{2})(\s*\(.*\))?\s*$")  # as JavaScript writes it
_EARLIEST = 1e8  # seconds or parts of one, by which it is told what a number of another unit is
_CLOCKS = ("", " %H:%M", " %H:%M:%S", "T%H:%M", "T%H:%M:%S")
_PACKED = {  # dates that look like numbers
    "%Y%m%d": re.compile(r"(19|20)\d{6}"), "%Y%m%d%H%M%S": re.compile(r"(19|20)\d{12}"),
}  # fmt: skip
Floats = npt.NDArray[np.float64]


def plain(name: str) -> str:
    """A column's name without case and signs, and without RecBole's type."""
    return re.sub(r"[^a-z0-9]", "", name.partition(":")[0].lower())


def find(role: str, given: str | None, columns: Sequence[str], source: Source) -> str | None:
    """The column of a role: the one that is named, else one whose name says it; none for `NONE`.

    Raises:
        ValueError: the named one is not there.
    """
    if given == NONE and role in OPTIONAL and NONE not in columns:
        return None
    if given is not None:
        return there(role, given, columns, source)
    by_name = {plain(column): column for column in reversed(columns)}
    return next((by_name[name] for name in KNOWN[role] if name in by_name), None)


def there(option: str, name: str, columns: Sequence[str], source: Source) -> str:
    """The name of a column that an option gave.

    Raises:
        ValueError: there is none of that name.
    """
    if name in columns:
        return name
    near = did_you_mean(name, columns, " ")
    raise ValueError(
        f"{source.option(option)}: '{source}' has no column '{name}'; {near}its "
        f"columns are {', '.join(columns)}"
    )


def require(roles: Mapping[str, str | None], columns: Sequence[str], source: Source) -> None:
    """Refuse a table without a user or an item, and name every role that no column has.

    Args:
        roles: {role: the column that is named}.
        columns: of the table.
        source: the table.
    """
    lacking = [role for role, given in roles.items() if not find(role, given, columns, source)]
    if set(lacking) <= set(OPTIONAL):
        return
    lacking = [role for role in lacking if roles[role] != NONE]
    options = ", ".join(source.option(role, "…") for role in lacking)
    optional = " (which may be left out)" if "time" in lacking else ""
    raise ValueError(
        f"no column of '{source}' says that it is the {' or the '.join(lacking)}{optional}; name "
        f"{'it' if len(lacking) == 1 else 'them'} with {options}: its columns are "
        f"{', '.join(columns)}"
    )


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
    def of(cls, texts: Series, form: str | None, source: Source) -> Times:
        """The form of some texts.

        Raises:
            ValueError: dates that could mean two days, times of day, or no times at all.
        """
        texts = texts[texts != ""]
        if form is not None:
            _check_form(form, source)
        if form is not None or not len(texts):
            return cls(form)
        for packed, look in _PACKED.items():
            if texts.str.fullmatch(look).all():
                return cls(packed)
        if texts.str.fullmatch(_CLOCK).all():
            raise ValueError(
                f"{source.option('time')}: '{source}' has times of day such as "
                f"'{one_line(texts.iloc[0], 40)}', without a date; name the column of dates with "
                f"{source.option('time', '…')}, or {source.option('time', NONE)}"
            )
        numbers = to_numeric(texts, errors="coerce")
        if numbers.notna().mean() > 0.5:
            return cls(unit=float(_units(np.array([numbers.abs().median()]))[0]))
        found = cls(day_first=_day_first(texts, source))
        if np.isnan(found.seconds(texts)).all():
            raise ValueError(
                f"{source.option('time')}: '{source}' has times such as "
                f"'{one_line(texts.iloc[0], 40)}', which are neither numbers nor dates; give their "
                f"form, such as {source.option('date_format', '%d.%m.%y')}"
            )
        return found

    def seconds(self, texts: Series) -> Floats:
        """Unix seconds, NaN where a text is no time or one in another unit, [N]; dates without a
        zone are UTC."""
        if self.unit:
            numbers = np.asarray(to_numeric(texts, errors="coerce"), np.float64)
            sizes = np.abs(numbers)
            other = (_units(sizes) != self.unit) & (sizes >= _EARLIEST)
            return np.where(other, np.nan, numbers / self.unit)
        dates = Series(texts.to_numpy(), dtype=object)
        if self.form is not None:
            return _seconds(dates, format=self.form)
        dates = dates.str.replace(_ZONE, r"\1", regex=True)
        day_first = self.day_first & ~dates.str.match(_YEAR_FIRST).to_numpy(bool)
        seconds = np.empty(len(dates))
        for which in (True, False):
            rows = day_first == which
            seconds[rows] = _seconds(dates[rows], format="mixed", dayfirst=which)
        return seconds


def _seconds(texts: Series, **form: Any) -> Floats:
    """Unix seconds of dates, NaN where a text is none, [N]."""
    dates = to_datetime(texts, utc=True, errors="coerce", **form)
    # Nanoseconds would end in 2262, and some tables say never by 9999-12-31.
    microseconds = dates.dt.as_unit("us").astype("int64").to_numpy()
    return np.where(dates.isna(), np.nan, microseconds / 1e6)


def _units(sizes: Floats) -> Floats:
    """How many make a second, of numbers of these sizes, [N]."""
    found = np.ones(len(sizes))
    for least, unit in reversed(_UNITS):
        found[sizes >= least] = unit
    return found


def _check_form(form: str, source: Source) -> None:
    try:
        datetime.strptime("", form)
    except ValueError as error:
        if "does not match" not in str(error) and "unconverted" not in str(error):
            option = source.option("date_format")
            raise ValueError(f"{option}: {error}; such as %d.%m.%Y") from None


def _day_first(texts: Series, source: Source) -> bool:
    parts = [found.group(1, 3, 5) for text in texts if (found := _SLASHES.match(str(text)))]
    if not parts:
        return False
    first, second = (max(int(part[i]) for part in parts) for i in (0, 1))
    # Days of a month are seldom all above 12, years of two digits are.
    years = all(int(part[0]) > 12 and len(part[2]) == 2 for part in parts)
    if years or (first > 12) == (second > 12):
        text = next(text for text in texts if _SLASHES.match(str(text)))
        day, other = _form(text, "%d", "%m"), _form(text, "%m", "%d")
        kinds = "day/month or month/day"
        if years:
            other = day.translate(str.maketrans("dy", "yd"))
            kinds = "day/month/year or year/month/day"
        raise ValueError(
            f"{source.option('time')}: '{source}' has dates such as '{text}', which may be "
            f"{kinds}; say which with {source.option('date_format', day)}, or '{other}'"
        )
    return first > 12


def _form(text: str, one: str, two: str) -> str:
    """The form of a text that begins with a date of numbers."""
    found = _SLASHES.match(text)
    assert found is not None
    year = "%Y" if len(found[5]) == 4 else "%y"
    date = f"{one}{found[2]}{two}{found[4]}{year}"
    return next((date + clock for clock in _CLOCKS if _fits(text, date + clock)), date)


def _fits(text: str, form: str) -> bool:
    try:
        datetime.strptime(text.strip(), form)
    except ValueError:
        return False
    return True
