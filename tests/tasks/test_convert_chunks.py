"""Tables whose later rows differ from the first ones, read in chunks of two rows."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from recbole_llm.cli import main
from recbole_llm.data.reading.files import Table
from recbole_llm.tasks.convert import sources

JUNE_25 = 1719273600.0  # 2024-06-25 UTC
DAY = 86400.0


@pytest.fixture(autouse=True)
def chunks_of_two(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sources, "CHUNK", 2)


def said(*dates: str, code: int = 0) -> str:
    rows = "".join(f"u,{number},{date}\n" for number, date in enumerate(dates))
    Path("o.csv").write_text(f"user,item,date\n{rows}")
    done = CliRunner().invoke(main, ["convert", "o.csv", "--time=date", "--output=d/s"])
    assert done.exit_code == code, done.output
    return done.output


def times() -> list[float]:
    return [float(text) for text in Table.read(Path("d/s/s.inter")).columns["timestamp"]]


def test_the_first_dates_with_days_and_months_say_which_is_which() -> None:
    said("2024-06-01", "2024-06-02", "05.06.2024", "25.06.2024", "06.06.2024", "07.06.2024")
    days = [(time - JUNE_25) / DAY + 25 for time in times()]
    assert days == [1, 2, 5, 25, 6, 7]


def test_dates_that_contradict_earlier_ones_are_refused() -> None:
    output = said("25/06/2024", "05/06/2024", "06/24/2024", "06/05/2024", code=2)
    assert "has dates such as '25/06/2024' and '06/24/2024', which have no form in" in output


def test_later_dates_of_one_kind_are_read_as_the_earlier_ones() -> None:
    said("05/06/24", "25/06/24", "26/06/24", "27/06/24")  # 26/06/24 alone may have its year first
    assert [(time - JUNE_25) / DAY for time in times()] == [-20, 0, 1, 2]


def test_later_dates_that_may_be_two_are_refused() -> None:
    output = said("2024-06-01", "2024-06-02", "05.06.2024", code=2)
    assert "'05.06.2024', which may be day/month or month/day; say which with" in output


def test_the_first_times_may_come_late() -> None:
    output = said("", "", "", "1719273600")
    assert times() == [JUNE_25] and "since their time cannot be read: 3 (line 2," in output


def test_counters_that_begin_like_years_stay_numbers() -> None:
    counted = [19_000_000 + 400_003 * i for i in range(5)]
    said(*map(str, counted))
    assert times() == counted


def test_columns_that_begin_late_are_named() -> None:
    rows = [{"user": "u", "item": name, "ts": 1} for name in "abcd"]
    Path("o.jsonl").write_text("\n".join(map(json.dumps, rows)))
    items = [{"item": name, "title": name} for name in "abcd"]
    items[2]["brand"] = items[3]["brand"] = items[3]["size"] = "x"
    Path("i.jsonl").write_text("\n".join(map(json.dumps, items)))
    done = CliRunner().invoke(main, ["convert", "o.jsonl", "--items=i.jsonl", "--output=d/s"])
    late = "columns that are in none of the first 2 rows, left out: 2 (brand, size)"
    assert f"'i.jsonl': {late}" in done.output
    assert list(Table.read(Path("d/s/s.item")).types) == ["item_id", "title"]
    told = ["convert", "o.jsonl", "--items=i.jsonl", "--text=title", "--output=d/s"]
    assert "in none of the first" not in CliRunner().invoke(main, told).output


def test_columns_of_interactions_that_begin_late_are_named_where_they_would_be_taken() -> None:
    rows = [{"user": "u", "item": name} for name in "abcd"]
    rows[2]["note"] = rows[3]["note"] = rows[3]["ts"] = rows[3]["stars"] = "1"
    Path("o.jsonl").write_text("\n".join(map(json.dumps, rows)))
    told = ["convert", "o.jsonl", "--output=d/s"]
    late = "columns that are in none of the first 2 rows, left out"
    assert f"{late}: 2 (stars, ts)" in CliRunner().invoke(main, told).output
    assert late not in CliRunner().invoke(main, [*told, "--time=none", "--rating=none"]).output
