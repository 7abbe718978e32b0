"""Numbers as people write them: ``47,92 €``, ``1.200,00``, ``USD 1,299.00``, ``19 %``.

A point or a comma may separate decimals or thousands, and a single value may not tell which:
``1.200`` is 1200 in one country and 1.2 in another. So the whole column decides: all its numbers
are read in the same way, or none is read.

>>> found = detect_numbers(["47,92 €", "1.200 €"])
>>> [found.numbers.plain(text) for text in ("47,92 €", "1.200 €", "on request")]
['47.92', '1200', None]
>>> detect_numbers(["1.200 €", "2.500 €"]).doubt
"'1.200 €' may be 1200 or 1.200"
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

_LONGEST = 50  # characters
_UNITS = (
    "[$€£¥₹₺₽₩₴₪₫₱฿%]|R\\$|EUR|Euro|USD|GBP|CHF|JPY|CNY|SEK|NOK|DKK|PLN|CZK|HUF|RON|CAD|AUD|NZD|BRL|INR"
    "|MXN|TRY|KRW|ZAR|kr|zł|Kč|Ft|Fr\\.|lei"
)
_PARTS = re.compile(  # spaces may be no-break ones
    rf"\s*(?P<sign>[-−]?)\s?(?P<before>{_UNITS})?\s?(?P<inner>[-−]?)"
    rf"(?P<digits>[0-9](?:[0-9.,'’\s]*[0-9])?)\s?(?P<after>{_UNITS})?\s*"
)
# A leading zero is a sign of codes, such as postal codes.
_WHOLE = "0|[1-9][0-9]*|[1-9][0-9]{{0,2}}(?P<group>[{groups}])[0-9]{{3}}(?:(?P=group)[0-9]{{3}})*"
_DIGITS = {
    decimal: re.compile(rf"({_WHOLE.format(groups=groups)})(?:[{decimal}](?P<part>[0-9]+))?")
    for decimal, groups in ((".", ",'’ "), (",", ".'’ "))
}


@dataclass(frozen=True)
class Numbers:
    """How the numbers of a column are written."""

    decimal: str  # point or comma
    unit: str = ""  # currency or %; some numbers may lack the currency

    def plain(self, text: str) -> str | None:
        """A number in digits with a decimal point; None if the text is written in another way."""
        value = _Value.of(text)
        units = {self.unit} if self.unit == "%" else {self.unit, ""}
        return value.by[self.decimal] if value is not None and value.unit in units else None


@dataclass(frozen=True)
class NumberFindings:
    """Findings on how a column writes its numbers."""

    numbers: Numbers | None = None  # None: there are no numbers, or there is a doubt
    doubt: str = ""  # why they cannot be read in one way; "": they can
    other: str = ""  # the first text that is no number; "": all are
    most: bool = False  # whether more than half of the texts are numbers
    exact: bool = False  # some have decimals or a unit: others may be ids, years or codes


@dataclass(frozen=True)
class _Value:
    """A text that may be a number, read with either decimal sign; None where that does not fit."""

    text: str
    unit: str
    by: dict[str, str | None]

    @classmethod
    def of(cls, text: str) -> _Value | None:
        parts = None if len(text) > _LONGEST else _PARTS.fullmatch(text)
        if parts is None:
            return None
        before, after, signs = parts["before"], parts["after"], parts["sign"] + parts["inner"]
        if (before and after) or len(signs) > 1:
            return None
        digits = re.sub(r"\s", " ", parts["digits"])
        by = {decimal: _plain(signs, digits, decimal) for decimal in _DIGITS}
        return cls(text.strip(), before or after or "", by) if any(by.values()) else None

    def is_ambiguous(self) -> bool:
        """Whether both decimal signs fit, and give different numbers."""
        return None not in self.by.values() and self.by["."] != self.by[","]


def _plain(sign: str, digits: str, decimal: str) -> str | None:
    found = _DIGITS[decimal].fullmatch(digits)
    if found is None:
        return None
    whole = re.sub("[^0-9]", "", found[1])
    minus = "-" if sign else ""
    return f"{minus}{whole}.{found['part']}" if found["part"] else f"{minus}{whole}"


def detect_numbers(texts: Iterable[str]) -> NumberFindings:
    """Detect how the numbers among a column's texts are written; empty texts are ignored."""
    filled = [text for text in texts if text.strip()]
    read = [_Value.of(text) for text in filled]
    values = [value for value in read if value is not None]
    other = next((text.strip() for text, value in zip(filled, read) if value is None), "")
    most = 2 * len(values) > len(filled)
    exact = any(value.unit or any("." in (n or "") for n in value.by.values()) for value in values)
    if not values:
        return NumberFindings(other=other)
    fits = [decimal for decimal in _DIGITS if all(value.by[decimal] for value in values)]
    doubt = _find_unit_doubt(values) or _find_decimal_doubt(values, fits)
    unit = max(value.unit for value in values)
    return NumberFindings(None if doubt else Numbers(fits[0], unit), doubt, other, most, exact)


def _find_unit_doubt(values: Sequence[_Value]) -> str:
    first = {value.unit: value.text for value in reversed(values)}
    if "%" not in first:
        first.pop("", None)
    if len(first) < 2:
        return ""
    one, two = sorted(first.values())[:2]
    return f"'{one}' and '{two}' have different units"


def _find_decimal_doubt(values: Sequence[_Value], fits: Sequence[str]) -> str:
    if not fits:
        first = [next(v.text for v in values if v.by[decimal] is None) for decimal in (",", ".")]
        return f"'{first[0]}' has a decimal point, '{first[1]}' a decimal comma"
    unclear = [value for value in values if value.is_ambiguous()]
    if len(fits) == 1:
        unclear = _only_thousands(values, unclear, fits[0])
    if not unclear:
        return ""
    return f"'{unclear[0].text}' may be {unclear[0].by[',']} or {unclear[0].by['.']}"


def _only_thousands(values: Sequence[_Value], unclear: list[_Value], decimal: str) -> list[_Value]:
    """Prices with three decimals among prices with two, which may be thousands after all."""
    lengths = {len((value.by[decimal] or "").partition(".")[2]) for value in values}
    if not any(value.unit not in ("", "%") for value in values) or not lengths - {0, 3}:
        return []
    return [value for value in unclear if decimal in value.text]
