"""Tables as Excel, pandas, Spark and shops export them."""

from __future__ import annotations

import bz2
import gzip
import lzma
import platform
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import recbole_llm
from recbole_llm.data.reading.files import Table
from recbole_llm.tasks.convert.run import convert
from recbole_llm.tasks.convert.sources import Source
from recbole_llm.tasks.convert.summary import Roles, Summary
from recbole_llm.tasks.convert.texts import LINE

HEADER = "user,item,date\n"


def converted(text: str | bytes, name: str = "o.csv", **given: Any) -> Summary:
    Path(name).write_bytes(text if isinstance(text, bytes) else text.encode())
    return convert(name, "d/s", **given)


def column(field: str, kind: str = "inter") -> list[Any]:
    found: list[Any] = Table.read(Path(f"d/s/s.{kind}")).columns[field].tolist()
    return found


def test_large_ids_keep_their_digits_beside_a_missing_one() -> None:
    ids = [2**53 + 1, 2**53, None]
    rows = [f'{{"user": {own or "null"}, "item": {i}.0}}\n' for i, own in enumerate(ids)]
    assert converted("".join(rows), "o.jsonl").users == 2
    assert column("user_id") == [str(own) for own in ids[:2]] and column("item_id") == ["0", "1"]


def test_ids_of_parquet_may_be_large_numbers_or_bytes() -> None:
    arrow, parquet = (pytest.importorskip(f"pyarrow{name}") for name in ("", ".parquet"))
    ids = [2**53 + 1, 2**53, None]
    items = [b"a", b"\xc3\xa4", b""]
    table = arrow.table({"user": arrow.array(ids, arrow.int64()), "item": arrow.array(items)})
    parquet.write_table(table, "o.parquet")
    convert("o.parquet", "d/s")
    assert column("user_id") == [str(own) for own in ids[:2]] and column("item_id") == ["a", "ä"]


@pytest.mark.skipif(int(pd.__version__.split(".")[0]) < 3, reason="pandas 2 ends in 2262")
@pytest.mark.parametrize("form", ["{}-{}-{}", "{1}/{2}/{0}"])
def test_dates_far_away_are_times(form: str) -> None:
    dates = [form.format(*date) for date in (("9999", "12", "31"), ("2024", "01", "31"))]
    converted(f"{HEADER}u,a,{dates[0]}\nu,b,{dates[1]}\n")
    assert list(map(float, column("timestamp"))) == [253402214400, 1706659200]


@pytest.mark.parametrize("seconds", ["00", ""])
def test_twelve_or_fourteen_digits_are_a_date_and_a_time(seconds: str) -> None:
    converted(f"{HEADER}u,a,202401311230{seconds}\nu,b,202402011230{seconds}\n")
    assert list(map(float, column("timestamp"))) == [1706704200, 1706790600]


def test_an_index_with_a_name_is_a_column() -> None:
    pytest.importorskip("pyarrow")
    frame = pd.DataFrame({"item": ["a", "b"], "title": ["x y", "z w"], "price": [1, 2]})
    frame.set_index("item").to_parquet("items.parquet")
    orders = pd.DataFrame({"user": ["u", "v"], "item": ["a", "b"], "time": [1, 2]})
    orders.sort_values("time", ascending=False).to_parquet("o.parquet")  # an index without a name
    source = Source("o.parquet")
    assert [str(name) for name in next(source.chunks())] == ["user", "item", "time", LINE]
    assert list(next(Source("items.parquet").chunks())["item"]) == ["a", "b"]


def test_separators_within_a_name_are_none_of_the_file() -> None:
    name = "time, in s, utc, x"
    summary = converted(f'user;item;"{name}"\nu;a;1000000000\n', roles=Roles(time=name))
    assert summary.interactions == 1


def test_a_text_is_taken_from_the_first_interaction_that_has_it() -> None:
    rows = ["u,a,", "v,b,", "u,a,Green tea", "w,a,Black tea", "v,b,", "v,,Nothing"]
    text = "\n".join(["user,item,title", *rows])
    summary = converted(text, roles=Roles(text=["title"]))
    assert column("item_id", "item") == ["a", "b"]
    assert column("title", "item") == ["Green tea", ""]
    assert any("1 of 2 items" in line and "1 row without" in line for line in summary.lines())


@pytest.mark.parametrize("before", ["sep=;\r\n", "\n\n", ";;;;\n"])
def test_the_header_may_come_after_what_excel_puts_there(before: str) -> None:
    summary = converted(f"{before}user;item;date;;\nu;a;2024-01-01;;\nu;;2024-01-01;;\n")
    assert summary.interactions == 1 and "unused   Unnamed: 3, Unnamed: 4" in summary.lines()
    line = 3 + before.count("\n")
    assert f"left out, since they have no item: 1 (line {line})" in summary.problems


def test_an_index_says_nothing_of_an_item() -> None:
    Path("p.csv").write_text(",item,title\n0,a,Green tea\n1,b,Mug\n")
    summary = converted(",user,item\n0,u,a\n1,u,a\n", items="p.csv")
    assert summary.interactions == 2  # the index tells two rows apart
    assert summary.of_items is not None
    assert summary.of_items.columns == {"item": "item_id:token", "title": "title:token_seq"}
    assert "'p.csv': columns without a name, left out: 1 (Unnamed: 0)" in summary.problems
    recbole_llm.from_pandas(pd.read_csv("o.csv"), "d/s", pd.read_csv("p.csv"))
    assert list(Table.read(Path("d/s/s.item")).types) == ["item_id", "title"]


@pytest.mark.parametrize(
    ("whole", "what"),
    [
        (b"PK\x03\x04\x14\0", "an Excel file or an archive; save the table as CSV, or unpack it"),
        (b"\xd0\xcf\x11\xe0\xa1\xb1", "an Excel file; save the table as CSV"),
        (gzip.compress(b"user,item\nu,a\n"), "compressed by gzip; let its name end in .gz"),
        (bz2.compress(b"user,item\nu,a\n"), "compressed by bzip2; unpack it"),
        (lzma.compress(b"user,item\nu,a\n"), "compressed by xz; unpack it"),
        (b"PAR1\x15\x04", "a Parquet file; let its name end in .parquet"),
    ],
    ids=["xlsx", "xls", "gzip", "bzip2", "xz", "parquet"],
)
@pytest.mark.parametrize("encoding", ["utf-8-sig", "latin-1"])
def test_a_file_that_is_no_text_is_refused_by_its_kind(
    whole: bytes, what: str, encoding: str
) -> None:
    with pytest.raises(ValueError, match=rf"^'o.dat' is {what}$"):
        converted(whole, "o.dat", encoding=encoding)


@pytest.mark.parametrize("kind", ["float32", "Float32"])
def test_numbers_of_half_the_width_stay_as_they_are_read(kind: str) -> None:
    """19.99 as a float32 is 19.98999977 as a Python float."""
    frame = pd.DataFrame({"user": ["u", "v"], "item": ["a", "b"], "price": [19.99, np.nan]})
    frame["price"] = frame["price"].astype(kind)
    recbole_llm.from_pandas(frame, "d/s", keep="price:float")
    assert column("price") == ["19.99", ""]


def test_items_without_words_are_not_for_pad() -> None:
    Path("p.csv").write_text("item\na\nb\n")
    lines = converted(f"{HEADER}u,a,1\nu,b,2\n", items="p.csv").lines()
    assert lines[-1].startswith("next     recbole-llm run --model=SASRec ")


def test_columns_of_data_frames_may_be_numbers_and_one_is_enough() -> None:
    frame = pd.DataFrame([["u", "a", 1.5, "Tea"]])
    recbole_llm.from_pandas(frame, "d/s", user=0, item=1, keep="2:float", text=[3])
    assert column("2") == ["1.5"] and column("3", "item") == ["Tea"]
    named = frame.set_axis(["user", "item", "price", "title"], axis=1)
    recbole_llm.from_pandas(named, "d/s", keep="price", text="title")
    assert column("price") == ["1.5"] and column("title", "item") == ["Tea"]
    with pytest.raises(ValueError, match="the argument 'items_' is unknown; did you mean 'item'"):
        recbole_llm.from_pandas(named, "d/s", items_=named)


def test_a_pipe_is_not_called_a_folder(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="the file '/dev/null' is a pipe or a device, not a file"):
        convert("/dev/null", tmp_path / "s")


def test_what_a_killed_conversion_left_is_removed() -> None:
    part = Path(f"d/s/s.inter.{platform.node()}-{2**30}.recbole-llm-part")  # of no running process
    part.parent.mkdir(parents=True)
    part.touch()
    converted(f"{HEADER}u,a,1\n")
    assert [file.name for file in part.parent.iterdir()] == ["s.inter"]


def test_rows_of_recboles_padding_and_long_values_are_named_as_they_are() -> None:
    Path("p.csv").write_text("item,title\na,Green tea\n[PAD],Mug\n")
    dates = ["2023-10-29 02:30:15 +0200 later", "2023-10-29 02:30:15 +0200 later on"]
    rows = ["u,a,2024-01-05", "v,[PAD],2024-01-06", *(f"w,b,{date}" for date in dates)]
    summary = converted("\n".join(["user,item,date", *rows]), items="p.csv")
    padding = "left out, since RecBole uses the item '[PAD]' as padding (rename it): 1 (line 3)"
    assert padding in summary.problems and f"'p.csv': {padding}" in summary.problems
    unread = "left out, since their time cannot be read: 2 "
    assert f"{unread}(line 4: '{dates[0][:30]}…', line 5: '{dates[0][:30]}…')" in summary.problems
