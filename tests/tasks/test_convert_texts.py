"""Whole columns become the same texts as their values one at a time."""

from __future__ import annotations

import pytest
from pandas import DataFrame, Series, to_datetime

from recbole_llm.tasks.convert import texts

_DATES = ["2024-03-01", None, "2024-03-01 12:00:05", "2024-03-01 12:00:05.120", "1969-01-01"]


@pytest.mark.parametrize("unit", ["s", "ms", "us", "ns"])
@pytest.mark.parametrize("zone", [None, "UTC", "Europe/Berlin"])
def test_dates_read_as_one_at_a_time(unit: str, zone: str | None) -> None:
    column = Series(to_datetime(_DATES, format="ISO8601").tz_localize(zone).as_unit(unit))
    assert _read(column) == [texts.text_of(date) for date in column]


def test_nanoseconds_are_kept() -> None:
    column = Series(to_datetime(["2024-03-01 12:00:05.000000001", "2024-03-01"], format="ISO8601"))
    assert _read(column) == ["2024-03-01 12:00:05.000000001", "2024-03-01 00:00:00"]


def test_common_columns_are_not_read_one_value_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(texts, "text_of")
    dates = Series(to_datetime(_DATES, format="ISO8601"))
    assert _read(dates)[:2] == ["2024-03-01 00:00:00", ""]
    assert _read(dates.dt.tz_localize("UTC"))[:2] == ["2024-03-01 00:00:00+00:00", ""]
    assert _read(Series(["é", None, "a"], dtype=object)) == ["é", "", "a"]
    assert _read(Series([True, False])) == ["True", "False"]


def _read(column: Series) -> list[str]:
    return texts.as_texts(DataFrame({"column": column, texts.LINE: 1}))["column"].tolist()
