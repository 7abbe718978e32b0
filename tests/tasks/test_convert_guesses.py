"""Guesses of the conversion that could be wrong without a message."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest
from click.testing import CliRunner

from recbole_llm.cli import main
from recbole_llm.data.reading.files import Table
from recbole_llm.tasks.convert import sources


def said(orders: str, *arguments: str, items: str = "", code: int = 0) -> str:
    Path("o.csv").write_text(orders)
    if items:
        Path("p.csv").write_text(items)
        arguments = ("--items=p.csv", *arguments)
    done = CliRunner().invoke(main, ["convert", "o.csv", *arguments, "--output=d/s"])
    assert done.exit_code == code, done.output
    return done.output


def column(kind: str, field: str) -> list[str]:
    found: list[str] = Table.read(Path(f"d/s/s.{kind}")).columns[field].tolist()
    return found


def test_products_are_named_by_the_column_that_orders_name_them_by() -> None:
    said("user_id,sku\n1,1\n2,2\n", items="product_id,sku,name\n2,1,Tea\n1,2,Mug\n")
    assert column("item", "item_id") == ["1", "2"]
    assert column("item", "name") == ["Tea", "Mug"]


@pytest.mark.parametrize("given", [[], ["--item=product_id"]])
def test_products_may_call_their_own_number_id(given: list[str]) -> None:
    said("user_id,product_id\n1,a\n", *given, items="id,name\na,Tea\n")
    assert column("item", "item_id") == ["a"]


def test_the_date_is_taken_before_the_time_of_day() -> None:
    said("user,item,date,time\nu,a,2024-01-02,10:00:00\nu,b,2023-01-01,12:00:00\n")
    assert [float(t) for t in column("inter", "timestamp")] == [1704153600, 1672531200]


@pytest.mark.parametrize("clock", ["10:00", "9:30:01.5", "9:30 pm"])
def test_a_time_of_day_is_no_time(clock: str) -> None:
    output = said(f"user,item,time\nu,a,{clock}\n", code=2)
    assert f"has times of day such as '{clock}', without a date" in output
    said(f"user,item,time\nu,a,{clock}\n", "--time=none")


def test_a_quote_that_is_not_closed_is_named_with_all_its_lines() -> None:
    rows = [f"u{i},a{i},1" for i in range(10)]
    orders = "\n".join(["user,item,note", *rows[:4], 'u,i,"5', *rows[4:], ""])
    assert "'o.csv': the quote that opens in line 6 is not closed" in said(orders, code=2)
    output = said(orders + 'u,"a,1\nu,b,1\n')
    assert "(an open quote?): 8 (line 6 to 13, …)" in " ".join(output.split())


def test_the_last_value_may_end_with_a_line_end() -> None:
    said('user,item,note\nu,a,x\nu,b,"y\n"\n', "--keep=note")
    assert column("inter", "note") == ["x", "y"]


def test_a_quote_is_not_closed_either_where_the_last_line_has_no_end() -> None:
    output = said('user,item,note\nu,a,"x\nu,b,y', code=2)
    assert "'o.csv': the quote that opens in line 2 is not closed" in output


def test_a_record_of_several_lines_is_known_by_its_first() -> None:
    output = said('user,item,note\nu,a,"x\ny"\nu,,"x\ny"\nu,b,z\n')
    assert "they have no item: 1 (line 4)" in " ".join(output.split())


def test_spaces_after_commas_belong_to_no_value() -> None:
    said('user, item\n1, "a, b"\n2, "c"\n')
    assert column("inter", "item_id") == ["a, b", "c"]


@pytest.mark.parametrize("date", ["24-01-02", "24/01/02 10:00"])
def test_years_of_two_digits_may_stand_first(date: str) -> None:
    orders = f"user,item,date\nu,a,{date}\nu,b,{date.replace('24', '23')}\n"
    output = " ".join(said(orders, code=2).split())
    assert "day/month/year or year/month/day" in output
    form = "%y-%m-%d" if "-" in date else "%y/%m/%d %H:%M"
    assert form in output
    said(orders, f"--date-format={form}")
    assert float(column("inter", "timestamp")[0]) // 86400 == 1704153600 // 86400


def test_a_field_can_be_named_in_a_condition() -> None:
    said("user,item\nu,a\n", items="item,class\na,tea\n")
    assert column("item", "class_") == ["tea"]


def times(*dates: str) -> list[float]:
    said("user,item,date\n" + "".join(f'u,i{n},"{date}"\n' for n, date in enumerate(dates)))
    return [float(t) for t in column("inter", "timestamp")]


@pytest.mark.parametrize("iso", ["2024-02-01", "2024/02/01", "2024.02.01", "2024-02-01T00:00:00Z"])
def test_the_year_in_front_leaves_the_day_last(iso: str) -> None:
    assert times("25.12.2023", iso, "15.01.2024") == [1703462400, 1706745600, 1705276800]


@pytest.mark.parametrize(
    ("zone", "hour"),
    [("GMT-0500 (EST)", 15), ("GMT+0200 (Central European Summer Time)", 8), ("GMT", 10)],
)
def test_dates_as_browsers_write_them(zone: str, hour: int) -> None:
    assert times(f"Tue Jan 02 2024 10:00:00 {zone}") == [1704153600 + hour * 3600]


@pytest.mark.parametrize(
    "zoned",
    [
        "2024-01-02T10:00Z",
        "2024-01-02 10:00:00.5+01",
        "Jan 2 2024 1 PM GMT",
        "Jan 2 2024 1:00 PM -0500",
    ],
)
def test_times_without_a_zone_beside_times_with_one_are_counted(zoned: str) -> None:
    local = ["2024-01-02 10:00:00", "10:00 2-Jan-2024", "2024-01-02", ""]

    def converted(dates: list[str]) -> str:
        rows = "".join(f'u,i{n},"{date}"\n' for n, date in enumerate(dates))
        return " ".join(said(f"user,item,date\n{rows}").split())

    output = converted([*local, zoned, zoned])
    assert "mind 3 times without a zone, taken for UTC, although 2 in this column have" in output
    for dates in (local, [zoned, zoned, ""]):
        assert "without a zone" not in converted(dates)


@pytest.mark.parametrize(
    ("main", "other"), [(1704100000, 1704200000000), (1704100000000, 1704200000)]
)
def test_times_of_another_unit_are_left_out_and_named(main: int, other: int) -> None:
    rows = [f"u,a,{main}", f"u,b,{other}", f"u,c,{main}", "u,d,0"]
    output = said("\n".join(["user,item,timestamp", *rows, ""]))
    assert column("inter", "item_id") == ["a", "c", "d"]
    assert f"line 3: '{other}'" in " ".join(output.split())


def test_half_a_character_costs_no_conversion() -> None:
    Path("o.jsonl").write_text(
        '{"user": "u", "item": "a", "review": "\\ud83d"}\n{"user": "u", "item": "b\\udc00"}\n'
    )
    done = CliRunner().invoke(main, ["convert", "o.jsonl", "--output=d/s"])
    assert done.exit_code == 0, done.output
    assert column("inter", "item_id") == ["a", "b?"]


def test_a_damaged_parquet_file_is_the_one_that_is_named() -> None:
    pandas = pytest.importorskip("pandas")
    pytest.importorskip("pyarrow")
    users = [f"user {n}" for n in range(20_000)]
    pandas.DataFrame({"user": users, "item": users}).to_parquet("o.parquet", compression=None)
    content = bytearray(Path("o.parquet").read_bytes())
    content[1000:9000] = b"\xff" * 8000
    Path("o.parquet").write_bytes(content)
    done = CliRunner().invoke(main, ["convert", "o.parquet", "--output=d/s"])
    assert done.exit_code == 2 and "'o.parquet' is damaged" in done.output


@pytest.mark.parametrize(
    "dates",
    [
        ["12:30 03.04.2017", "10:00 25.04.2017"],
        [" 03.04.2017", " 25.04.2017"],
        ["Mon 03/04/2017", "Tue 25/04/2017"],
        ["03 04 2017", "25 04 2017"],
    ],
)
def test_the_day_is_first_in_all_dates_wherever_they_stand(dates: list[str]) -> None:
    rows = [f"u\t{item}\t{date}" for item, date in zip("ab", dates)]
    said("\n".join(["user\titem\tdate", *rows, ""]))
    days = [float(t) // 86400 for t in column("inter", "timestamp")]
    assert days == [17259, 17281]  # 3 and 25 April 2017


@pytest.mark.parametrize("date", ["12:30 03.04.2017", "Mon 03/04/2017"])
def test_dates_behind_something_else_may_be_unclear_too(date: str) -> None:
    output = said(f"user\titem\tdate\nu\ta\t{date}\n", code=2)
    form = "%H:%M %d.%m.%Y" if "." in date else "%a %d/%m/%Y"
    assert f"dates such as '{date}', which may be day/month" in output
    assert f"--date-format='{form}'" in output


def test_a_date_that_cannot_be_says_nothing_of_the_others() -> None:
    said("user,item,date\nu,a,22.09.2024 21:10\nu,b,32.13.2024 10:00\nu,c,03.04.2024 09:00\n")
    days = [float(t) // 86400 for t in column("inter", "timestamp")]
    assert days == [19988, 19816]  # 22 September and 3 April 2024


def test_the_end_of_a_date_with_the_year_first_is_no_day_and_month() -> None:
    said("user,item,date\nu,a,2017-04-03 10:11:12\nu,b,2017 04 03 10:00\n")
    assert [float(t) // 86400 for t in column("inter", "timestamp")] == [17259, 17259]


def test_times_with_a_decimal_comma_are_numbers() -> None:
    said("user\titem\ttimestamp\nu\ta\t0,5\nu\tb\t2,25\nu\tc\t100,5\n")
    assert [float(t) for t in column("inter", "timestamp")] == [0.5, 2.25, 100.5]
    output = said("user\titem\ttimestamp\nu\ta\t1,250 EUR\nu\tb\t2,250 EUR\n", code=2)
    assert "has times that are numbers, and '1,250 EUR' may be 1.250 or 1250" in output


def test_rows_repeat_though_a_later_chunk_has_further_columns(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sources, "CHUNK", 2)
    rows = ['{"user": "u", "item": "a"}', '{"user": "u", "item": "b"}']
    later = ['{"user": "u", "item": "a", "gift": "yes"}', '{"user": "u", "item": "b"}']
    Path("o.jsonl").write_text("\n".join([*rows, *later, ""]))
    done = CliRunner().invoke(main, ["convert", "o.jsonl", "--output=d/s"])
    assert "since they repeat another row: 1 (line 4)" in done.output
    assert column("inter", "item_id") == ["a", "b", "a"]


def test_texts_of_any_length_are_converted_and_read() -> None:
    long = "tea " * 50_000
    said("user,item\nu,a\n", items=f'item,title,text\na,"12"" record",{long}\n')
    assert column("item", "text") == [long.strip()]


@pytest.mark.parametrize(
    ("date", "form", "seconds"),
    [
        ("01/02/2024", "%d/%m/%Y", 0),
        ("1.2.24", "%d.%m.%y", 0),
        ("01-02-24 10:30", "%d-%m-%y %H:%M", 37800),
        ("01/02/2024T10:30:15", "%d/%m/%YT%H:%M:%S", 37815),
        ("01/02/2024, 10:30:15.5", "%d/%m/%Y, %H:%M:%S.%f", 37815.5),
        ("01/02/2024 10:30:15,500", "%d/%m/%Y %H:%M:%S,%f", 37815.5),
        ("01/02/2024 10:30 AM", "%d/%m/%Y %I:%M %p", 37800),
        ("1/2/24 9:30:15 PM", "%d/%m/%y %I:%M:%S %p", 77415),
        ("01/02/2024 12:30am", "%d/%m/%Y %I:%M%p", 1800),
        ("1:30 pm 01/02/2024", "%I:%M %p %d/%m/%Y", 48600),
        ("01/02/2024 10:30 +01:00", "%d/%m/%Y %H:%M %z", 34200),
        ("Thursday, 01.02.2024 um 10:30", "%A, %d.%m.%Y um %H:%M", 37800),
    ],
)
def test_a_form_that_is_advised_reads_the_dates(date: str, form: str, seconds: float) -> None:
    orders = f'user,item,date\nu,a,"{date}"\n'
    output = said(orders, code=2)
    assert f"--date-format={shlex.quote(form)}, or " in output
    said(orders, f"--date-format={form}")
    first_of_february = 1706745600
    assert [float(t) for t in column("inter", "timestamp")] == [first_of_february + seconds]


@pytest.mark.parametrize("clock", ["1:30 p.m.", "2h57", "10:30 EST", "um 10"])
def test_no_form_is_made_of_what_no_directive_reads(clock: str) -> None:
    """Such a form could read other rows wrongly; the form of the date alone reads no row."""
    orders = f"user,item,date\nu,a,01/02/2024 {clock}\n"
    assert "--date-format=%d/%m/%Y, or " in said(orders, code=2)
    assert "not one row can be used" in said(orders, "--date-format=%d/%m/%Y", code=2)
