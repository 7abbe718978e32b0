"""Parsing of times, in whatever form they are written."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from operator import itemgetter
from typing import Any

import numpy as np
from pandas import Series, to_datetime, to_numeric

from recbole_llm.core.arrays import FloatArray
from recbole_llm.core.errors import one_line
from recbole_llm.core.lines import plural
from recbole_llm.tasks.convert.columns import NONE
from recbole_llm.tasks.convert.numbers import Numbers, detect_numbers
from recbole_llm.tasks.convert.sources import Source

# Numbers below a size are in its unit (units per second); those above all sizes, in the last one.
_SIZES, _UNITS = (1e11, 1e14, 1e17), np.array([1.0, 1e3, 1e6, 1e9])
# Groups: seconds, their fraction, space, AM or PM, space, zone.
_CLOCK = re.compile(
    r"(?i)\d{1,2}:\d{2}(:\d{2})?([.,]\d+)?(\s*)([ap]\.?m\b\.?)?(\s*)([+-]\d{2}:?\d{2}\b|z\b)?"
)
_UNREAD = re.compile(r"\d|\b(?!UTC|GMT)[A-Z]{2,}\b")  # left in a form: a clock, the name of a zone
_WEEKDAY = re.compile(r"(?i)\b(?:mon|tue|wed|thu|fri|sat|sun)(\w*day)?\b")
# Day, month and year anywhere in a text; not the end of 2024-01-02 or of a clock.
_SLASHES = re.compile(r"(?<![\d:])(?<!\d{4}[/. -])(\d{1,2})([/. -])(\d{1,2})\2(\d{4}|\d{2})(?!\d)")
_YEAR_FIRST = re.compile(r"\s*\d{4}\D")  # four digits are never a day or a month
_ZONE = re.compile(r"\s*(?:GMT|UTC)([+-]\d{2}:?\d{2})(\s*\(.*\))?\s*$")  # as JavaScript writes it
_ZONED = re.compile(  # only a zone has + or Z, or has - after a clock
    r"[+Zz]|UTC|GMT|:\d\d[.,\d]*\s*(?:[APap]\.?[Mm]\.?\s*)?-\d\d"
)
_FEW = 0.01  # below this share, unclear dates are left out without an error
_AS_PANDAS = Numbers("")  # numbers that pandas reads
_EARLIEST = 1e8  # smaller numbers are never taken for numbers of another unit
_DAY, _MINUTE = r"(19|20)\d\d(0[1-9]|1[0-2])(0[1-9]|[12]\d|3[01])", r"([01]\d|2[0-3])[0-5]\d"
_PACKED = {  # dates that look like numbers
    "%Y%m%d": re.compile(_DAY), "%Y%m%d%H%M": re.compile(_DAY + _MINUTE),
    "%Y%m%d%H%M%S": re.compile(_DAY + _MINUTE + r"[0-5]\d"),
}  # fmt: skip


@dataclass
class Times:
    """A parser of texts to Unix seconds, all in the form that the first texts have."""

    source: Source
    form: str | None = None  # a format of ``strptime``; None: detected
    numbers: Numbers | None = None  # how the numbers are written; None: texts are dates
    unit: float = 1.0  # units of the numbers per second
    telling: tuple[str, ...] = ()  # dates that tell whether days come before months
    read: int = 0  # dates read so far
    unclear: int = 0  # dates left out so far, since no date tells the order
    zoned: int = 0  # dates read so far that name their time zone
    zoneless: int = 0  # all other dates read so far

    @classmethod
    def of(cls, texts: Series, form: str | None, source: Source) -> Times:
        """Detect the form of some texts.

        Raises:
            ValueError: dates that could mean two days, times of day, or no times at all.
        """
        if form is not None:
            _check_form(form, source)
            return cls(source, form)
        texts = texts.str.strip()
        texts = texts[texts != ""]
        for packed, look in _PACKED.items():
            if texts.str.fullmatch(look).mean() > 0.5:  # the others, such as 0, are no dates
                return cls(source, packed)
        if texts.str.fullmatch(_CLOCK).all():
            raise ValueError(
                f"{source.option('time')}: '{source}' has times of day such as "
                f"'{one_line(texts.iloc[0], 40)}', without a date; name the column of dates with "
                f"{source.option('time', '…')}, or {source.option('time', NONE)}"
            )
        if (written := _detect_numbers(texts, source)) is not None:
            middle = np.nanmedian(np.abs(_values(texts, written)), keepdims=True)
            return cls(source, numbers=written, unit=float(_units(middle)[0]))
        if np.isnan((found := cls(source)).seconds(texts)).all():
            raise ValueError(
                f"{source.option('time')}: '{source}' has times such as "
                f"'{one_line(texts.iloc[0], 40)}', which are neither numbers nor dates; give their "
                f"form, such as {source.option('date_format', '%d.%m.%y')}"
            )
        return cls(source, telling=found.telling)

    def seconds(self, texts: Series) -> FloatArray:
        """Unix seconds [N], NaN where a text is no time or is in another unit; dates without a zone
        are UTC.

        Raises:
            ValueError: dates that could mean two days, or contradict earlier ones.
        """
        texts = texts.str.strip()
        if self.numbers is not None:
            numbers = _values(texts, self.numbers)
            sizes = np.abs(numbers)
            other = (_units(sizes) != self.unit) & (sizes >= _EARLIEST)
            return np.where(other, np.nan, numbers / self.unit)
        dates = Series(texts.to_numpy(), dtype=object)
        if self.form is not None:
            return _seconds(dates, format=self.form)
        dates = dates.str.replace(_ZONE, r"\1", regex=True)
        self.read += len(dates)
        few = _FEW * self.read - self.unclear
        self.telling = _find_order_evidence([*self.telling, *dates], few, self.source)
        day_first = ~dates.str.match(_YEAR_FIRST).to_numpy(bool) & _has_day_first(self.telling)
        seconds = np.empty(len(dates))
        for which in (True, False):
            rows = day_first == which
            seconds[rows] = _seconds(dates[rows], format="mixed", dayfirst=which)
        if not self.telling:  # the few that may mean two days
            unclear = np.array([bool(_SLASHES.search(date)) for date in dates], bool)
            seconds[unclear] = np.nan
            self.unclear += int(unclear.sum())
        read = dates[~np.isnan(seconds)]
        zoned = sum(map(bool, map(_ZONED.search, read)))  # half the time of str.contains
        self.zoned, self.zoneless = self.zoned + zoned, self.zoneless + len(read) - zoned
        return seconds

    def mixed_zones(self) -> list[str]:
        """A line on dates without a time zone, if others of the column name theirs."""
        if not (self.zoned and self.zoneless):
            return []
        return [
            f"{plural(self.zoneless, 'time')} without a zone, taken for UTC, although "
            f"{self.zoned:,} in this column have a zone; local times would be in the wrong order"
        ]


def _detect_numbers(texts: Series, source: Source) -> Numbers | None:
    """How times that are numbers are written; None: most texts are no numbers.

    Raises:
        ValueError: the texts can be read as different numbers.
    """
    if to_numeric(texts, errors="coerce").notna().mean() > 0.5:
        return _AS_PANDAS
    found = detect_numbers(texts)
    if found.most and found.numbers is None:
        raise ValueError(
            f"{source.option('time')}: '{source}' has times that are numbers, and {found.doubt}; "
            f"write them with a decimal point and digits alone"
        )
    return found.numbers if found.most else None


def _values(texts: Series, written: Numbers) -> FloatArray:
    """Texts as numbers [N], NaN where a text is no number."""
    if written == _AS_PANDAS:
        return np.asarray(to_numeric(texts, errors="coerce"), np.float64)
    return np.array([float(written.plain(text) or "nan") for text in texts])


def _seconds(texts: Series, **form: Any) -> FloatArray:
    """Unix seconds of dates [N], NaN where a text is no date."""
    dates = to_datetime(texts, utc=True, errors="coerce", **form)
    # Nanoseconds would overflow in 2262, and some tables write 9999-12-31 for never.
    microseconds = dates.dt.as_unit("us").astype("int64").to_numpy()
    return np.where(dates.isna(), np.nan, microseconds / 1e6)


def _units(sizes: FloatArray) -> FloatArray:
    """Units per second of numbers of these sizes, [N]."""
    return _UNITS[np.searchsorted(_SIZES, sizes, side="right")]


def _check_form(form: str, source: Source) -> None:
    try:
        datetime.strptime("", form)
    except ValueError as error:
        if "does not match" not in str(error) and "unconverted" not in str(error):
            option = source.option("date_format")
            raise ValueError(f"{option}: {error}; such as %d.%m.%Y") from None


def _has_day_first(telling: Iterable[str]) -> bool:
    return any(int(found[1]) > 12 for date in telling if (found := _SLASHES.search(date)))


def _find_order_evidence(texts: Sequence[str], few: float, source: Source) -> tuple[str, ...]:
    """Dates that tell whether days come before months: the date with the greatest first or second
    number, and the date with the least first number. Empty if no date needs it, or if fewer than
    `few` dates do and none tells.

    Raises:
        ValueError: no date tells the order, or two dates contradict each other.
    """
    found = ((text, part.groups()) for text in texts if (part := _SLASHES.search(text)))
    # Impossible dates, such as 32.13., say nothing about the others.
    dates = [(t, int(p[0]), int(p[2]), p[3]) for t, p in found if min(int(p[0]), int(p[2])) <= 12]
    if not dates:
        return ()
    text = dates[0][0]
    first, second = (max(dates, key=itemgetter(i)) for i in (1, 2))
    # Days of a month are seldom all above 12; years of two digits are.
    years = all(day > 12 and len(year) == 2 for _, day, _, year in dates)
    if not years and first[1] > 12 and second[2] > 12:
        raise ValueError(
            f"{source.option('time')}: '{source}' has dates such as '{first[0]}' and "
            f"'{second[0]}', which have no form in common; correct them, or name the form of those "
            f"to keep with {source.option('date_format', _guess_form(first[0], '%d', '%m'))}"
        )
    if years or first[1] <= 12 >= second[2]:
        if len(dates) < few:
            return ()
        day, other = _guess_form(text, "%d", "%m"), _guess_form(text, "%m", "%d")
        kinds = "day/month or month/day"
        if years:
            other = day.translate(str.maketrans("dy", "yd"))
            kinds = "day/month/year or year/month/day"
        raise ValueError(
            f"{source.option('time')}: '{source}' has dates such as '{text}', which may be "
            f"{kinds}; say which with {source.option('date_format', day)}, or '{other}'"
        )
    least = min(dates, key=itemgetter(1))
    return (first[0] if first[1] > 12 else second[0]), least[0]


def _guess_form(text: str, one: str, two: str) -> str:
    """The form of a text with a numeric date; pandas cannot guess that of 1:30 PM or 01/02/24."""

    def date_form(found: re.Match[str]) -> str:
        return f"{one}{found[2]}{two}{found[2]}{'%Y' if len(found[4]) == 4 else '%y'}"

    form = _SLASHES.sub(date_form, text.replace("%", "%%"), count=1)
    form = _CLOCK.sub(_clock_form, form, count=1)
    form = _WEEKDAY.sub(lambda found: "%A" if found[1] else "%a", form)
    if not _UNREAD.search(re.sub("%.", "", form)):
        return form
    found = _SLASHES.search(text)
    assert found is not None
    return date_form(found)  # fits no row; with the clock as plain text it would fit this row alone


def _clock_form(found: re.Match[str]) -> str:
    seconds, fraction, space, half, second_space, zone = found.groups(default="")
    if "." in half:  # no directive reads p.m.
        return found[0]
    return "".join([
        "%I:%M" if half else "%H:%M", seconds and ":%S", fraction and f"{fraction[0]}%f",
        space, half and "%p", second_space, zone and "%z",
    ])  # fmt: skip
