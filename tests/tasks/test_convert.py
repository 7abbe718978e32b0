"""Users' own tables as atomic files."""

from __future__ import annotations

import errno
import gzip
import json
import os
from datetime import datetime
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

import recbole_llm
from recbole_llm.cli import main
from recbole_llm.core.config import Config
from recbole_llm.data.create import create_dataset
from recbole_llm.data.reading.files import Table
from recbole_llm.tasks.convert import sources
from recbole_llm.tasks.convert.interactions import _Seen
from recbole_llm.tasks.convert.run import convert
from recbole_llm.tasks.convert.sources import FrameSource
from recbole_llm.tasks.convert.summary import Roles
from recbole_llm.tasks.convert.texts import text_of
from recbole_llm.tasks.convert.times import Times

ORDERS = """\
order;customer;sku;date;price
1;anna;A1;2024-01-05 10:00;3.50
2;anna;B2;2024-01-06;2.0
2;anna;B2;2024-01-06;2.0
3;bob;A1;yesterday;1.0
4;;A1;2024-02-01;1.0
5;bob;C3;2024-03-01;1.0
6;bob;D4;2024-03-02;1.0;extra
7;carl;D4;2024-03-02;1.0
"""
PRODUCTS = """\
sku,title,category,price
A1,"Green tea, ""Sencha\"\"",tea,3.50
B2,"Black\ttea\r\nloose",tea,2.25
C3,Mug,ware,
C3,Mug again,ware,4.0
,Saucer,ware,2.0
"""


@pytest.fixture
def shop() -> None:
    Path("orders.csv").write_text(ORDERS, encoding="utf-8")
    Path("products.csv").write_text(PRODUCTS, encoding="utf-8", newline="")


def columns(file: str) -> dict[str, list[str]]:
    table = Table.read(Path(file))
    return {f"{f}:{t}": table.columns[f].tolist() for f, t in table.types.items()}


@pytest.mark.parametrize("chunk", [2, 1000])
def test_a_shop(shop: None, chunk: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sources, "CHUNK", chunk)
    done = CliRunner().invoke(
        main, ["convert", "orders.csv", "--items=products.csv", "--output=dataset/shop"]
    )
    assert done.exit_code == 0, done.output
    assert columns("dataset/shop/shop.inter") == {
        "user_id:token": ["anna", "anna", "bob", "carl"],
        "item_id:token": ["A1", "B2", "C3", "D4"],
        "timestamp:float": ["1704448800", "1704499200", "1709251200", "1709337600"],
    }
    assert columns("dataset/shop/shop.item") == {
        "item_id:token": ["A1", "B2", "C3"],
        "title:token_seq": ['Green tea, "Sencha"', "Black tea loose", "Mug"],
        "category:token": ["tea", "tea", "ware"],
        "price:float": ["3.50", "2.25", ""],
    }
    said = dict(line.split(None, 1) for line in done.output.splitlines() if line[:4] != "mind")
    assert said["size"] == "3 users, 4 items, 4 interactions"
    assert said["times"] == "2024-01-05 to 2024-03-02"
    assert said["texts"] == "of 3 of 4 items, from title, category"
    assert said["titles"] == "from title (run --item_title_field=… takes another)"
    assert said["next"] == (
        "recbole-llm run --model=PAD --dataset=shop --missing_embedding=mean "
        "--topk=4 --valid_metric=MRR@4"  # of the four items
    )
    minded = [line[9:] for line in done.output.splitlines() if line.startswith("mind")]
    assert sorted(minded) == sorted(
        [
            "left out, since they have more or fewer values than the header: 1 (line 8)",
            "left out, since they have no user: 1 (line 6)",
            "left out, since their time cannot be read: 1 (line 5: 'yesterday')",
            "left out, since they repeat another row: 1 (line 4)",
            "'products.csv': tabs or line ends in texts, now spaces: 1 ('Black tea loose')",
            "'products.csv': left out: an item that has a row already: 1 (C3)",
            "'products.csv': left out, since they have no item: 1 (line 7)",
            "'products.csv': items with interactions but no row: 1 (D4)",
        ]
    )


def test_the_summary_counts_items_without_orders_and_texts_and_names_replaced_files() -> None:
    orders = pd.DataFrame({"user": ["u", "v"], "item": ["a", "b"], "time": [1, 2]})
    items = pd.DataFrame({"item": ["a", "b", "c", "d"], "title": ["tea", "", "mug", ""]})
    items["price"] = [1.5, 2.5, 3.5, 4.5]  # is no text
    summary = recbole_llm.from_pandas(orders, "dataset/s", items=items)
    said = "of 1 of 2 items, from title; 2 more items without interactions; 2 rows without text"
    assert f"texts    {said}" in summary.lines()
    assert not any(line.startswith("titles") for line in summary.lines())  # there is one text
    assert repr(summary) == "\n".join(summary.lines())  # what a notebook shows
    assert not any(line.startswith("replaced") for line in summary.lines())
    again = recbole_llm.from_pandas(orders, "dataset/s", items=items)
    assert "replaced s.inter, s.item" in again.lines()
    kept = recbole_llm.from_pandas(orders, "dataset/s")
    assert "replaced s.inter" in kept.lines()
    assert "mind     s.item was there before, and stays as it is" in kept.lines()


def test_a_table_that_is_replaced_by_its_own_conversion_is_kept() -> None:
    folder = Path("dataset/shop")
    folder.mkdir(parents=True)
    table = folder / "shop.inter"
    table.write_text("customer,sku,when\nu,a,3\nu,b,4\n")  # `when` is no known name of times
    said = convert(table, folder).lines()
    assert "mind     shop.inter was the table itself, kept as before-1-shop.inter" in said
    assert (folder / "before-1-shop.inter").read_text() == "customer,sku,when\nu,a,3\nu,b,4\n"
    again = convert(table, folder).lines()  # changes nothing
    assert not any("kept as" in line for line in again)
    with pytest.raises(ValueError, match="no column 'when'"):
        convert(table, folder, roles=Roles(time="when"))
    assert sorted(file.name for file in folder.iterdir()) == ["before-1-shop.inter", "shop.inter"]
    convert(folder / "before-1-shop.inter", folder, roles=Roles(time="when"))
    assert table.read_text().splitlines()[1] == "u\ta\t3"


def test_a_table_that_was_replaced_before_a_failure_is_kept(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    folder = Path("dataset/shop")
    folder.mkdir(parents=True)
    (folder / "shop.inter").write_text("customer,sku\nu,a\nu,b\n")
    (folder / "shop.item").write_text("sku,title\na,Tea\nb,Mug\n")
    replace = os.replace

    def fail(part: Path, target: Path) -> None:
        if target.suffix == ".inter":  # the last of the files
            raise OSError(errno.EIO, "Input/output error")
        replace(part, target)

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(ValueError, match=r"shop\.inter' cannot be written"):
        convert(folder / "shop.inter", folder, items=folder / "shop.item")
    kept = ["before-1-shop.item", "shop.inter", "shop.item"]
    assert sorted(file.name for file in folder.iterdir()) == kept
    assert (folder / kept[0]).read_text() == "sku,title\na,Tea\nb,Mug\n"


def test_what_is_written_trains(shop: None) -> None:
    convert("orders.csv", "dataset/shop")
    config = {"epochs": 1, "show_progress": False, "eval_args": {"split": {"RS": [1, 0, 0]}}}
    dataset = recbole_llm.run_recbole_llm(
        "Pop", "shop", config_dict={**config, "eval_step": 0, "topk": [1], "valid_metric": "MRR@1"}
    )
    assert "test_result" in dataset


def test_every_format_gives_the_same(shop: None) -> None:
    frame = pd.read_csv("orders.csv", sep=";", on_bad_lines="skip")
    frame["day"] = [4, 5, 5, None, 6, 7, 8]  # floats, since a value is missing
    frame.to_parquet("orders.parquet")
    rows = [json.dumps(row) for row in frame.replace({np.nan: None}).to_dict("records")]
    deep = '{"a":' + "[" * 100_000
    lines = "\n".join([*rows[:2], "{broken", "", *rows[2:], deep])
    Path("orders.jsonl").write_text(lines, encoding="utf-8")
    with gzip.open("orders.csv.gz", "wt") as file:
        file.write(frame.to_csv(index=False))
    roles = Roles(time="day")
    found = []
    for name in ("orders.parquet", "orders.jsonl", "orders.csv.gz"):
        summary = convert(name, f"dataset/{name}", roles=roles)
        found.append(columns(f"dataset/{name}/{name}.inter"))
    assert found[0] == found[1] == found[2]
    assert found[0]["timestamp:float"] == ["4", "5", "7", "8"]
    json_lines = convert("orders.jsonl", "dataset/x", roles=roles)
    assert "left out, since they are no JSON object: 2 (line 3, line 10)" in json_lines.problems
    recbole_llm.from_pandas(frame, "dataset/frame", time="day")
    assert columns("dataset/frame/frame.inter") == found[0]
    assert summary.interactions == 4


def test_two_orders_of_a_day_are_no_repeat() -> None:
    frame = pd.DataFrame(
        {
            "order": [1, 2, 2],
            "user": "a",
            "item": "x",
            "date": ["2024-01-05"] * 3,
            "tags": [[1]] * 3,
        }
    )
    summary = recbole_llm.from_pandas(frame, "dataset/s")
    assert summary.interactions == 2
    assert "unused   order, tags" in summary.lines()


def test_an_index_with_a_name_is_a_column_as_in_the_file_of_the_frame() -> None:
    orders = pd.DataFrame(
        {
            "user": ["u", "u", "v"],
            "item": ["a", "a", "b"],
            "date": pd.to_datetime([1, 2, 3], unit="s"),
        }
    )
    items = pd.DataFrame({"item": ["a", "b"], "title": ["tea", "mug"]})
    recbole_llm.from_pandas(orders, "dataset/flat", items=items)
    for index in (["date"], ["user", "date"]):
        summary = recbole_llm.from_pandas(
            orders.set_index(index), "dataset/s", items=items.set_index("item")
        )
        assert summary.interactions == 3
        for kind in ("inter", "item"):
            assert columns(f"dataset/s/s.{kind}") == columns(f"dataset/flat/flat.{kind}")
    beside = orders.set_index(orders["date"].rename("item"))  # a column has the name, too
    assert recbole_llm.from_pandas(beside, "dataset/s").items == 2
    assert list(beside.columns) == list(orders.columns) and beside.index.name == "item"


def test_texts_may_stand_beside_the_interactions() -> None:
    frame = pd.DataFrame(
        {"uid": [1, 2, 3], "product": ["a", "a", "b"], "title": ["x y", "x y", "z"], "qty": 1}
    )
    summary = recbole_llm.from_pandas(frame, "dataset/s", text=["title"])
    assert columns("dataset/s/s.item") == {
        "item_id:token": ["a", "b"],
        "title:token_seq": ["x y", "z"],
    }
    assert "none: sequential models need them" in "\n".join(summary.lines())
    assert not any(line.startswith("mind") for line in summary.lines())


@pytest.mark.parametrize(
    ("texts", "form", "seconds"),
    [
        (["1700000000", "1700000001.5"], None, [1700000000, 1700000001.5]),
        (["1,700,000,000", "1,700,000,001.5"], None, [1700000000, 1700000001.5]),
        (["1700000000000", ""], None, [1700000000, np.nan]),
        (["1700000000000000"], None, [1700000000]),
        (["20231114"], None, [1699920000]),
        (["2023-11-14T22:13:20Z", "2023-11-14 23:13:20+01:00"], None, [1700000000] * 2),
        (["13/11/2023", "04/11/2023", "never"], None, [1699833600, 1699056000, np.nan]),
        (["11/13/2023"], None, [1699833600]),
        (["04.11.2023"], "%d.%m.%Y", [1699056000]),
    ],
)
def test_times(texts: list[str], form: str | None, seconds: list[float]) -> None:
    column = pd.Series(texts)
    source = FrameSource(pd.DataFrame(), "x")
    np.testing.assert_allclose(Times.of(column, form, source).seconds(column), seconds)


def test_a_few_dates_that_may_mean_two_days_cost_only_their_rows(shop: None) -> None:
    """An option that gives the form of these dates would fit no other row."""
    rows = "".join(f"u,{item},2024-01-02\n" for item in range(200))
    Path("t.csv").write_text(f"user,item,date\n{rows}u,late,03/04/2024\n", encoding="utf-8")
    summary = convert("t.csv", "dataset/t")
    assert summary.interactions == 200
    assert summary.problems == [
        "left out, since their time cannot be read: 1 (line 202: '03/04/2024')"
    ]
    rows = rows.replace("2024-01-02", "25/04/2024", 1)  # shows that days come first
    Path("t.csv").write_text(f"user,item,date\n{rows}u,late,03/04/2024\n", encoding="utf-8")
    assert convert("t.csv", "dataset/t").interactions == 201


def test_few_are_counted_over_all_chunks() -> None:
    dates, late = pd.Series(["2024-01-02"] * 200), pd.Series(["03/04/2024"])
    found = Times.of(dates, None, FrameSource(pd.DataFrame(), "x"))
    found.seconds(dates)
    for _ in range(2):  # below 1 % of 201, and of 202
        assert np.isnan(found.seconds(late)).all()
    with pytest.raises(ValueError, match="'03/04/2024', which may be day/month or month/day"):
        found.seconds(late)


def test_what_cannot_be_known_is_asked(shop: None) -> None:
    def error(text: str, *options: str) -> str:
        Path("t.csv").write_text(text, encoding="utf-8")
        done = CliRunner().invoke(main, ["convert", "t.csv", "--output=dataset/t", *options])
        assert done.exit_code == 2 and done.output.count("\n") == 1, done.output
        return done.output

    assert "may be day/month or month/day" in error("user,item,date\na,b,03/04/2024\n")
    said = error("user,item,date\na,b,22/04/2024\na,c,04/22/2024\n")
    assert "such as '22/04/2024' and '04/22/2024', which have no form in common" in said
    assert "--date-format=%d/%m/%Y" in said
    assert "has times such as 'soon'" in error("user,item,date\na,b,soon\n")
    assert "'t.csv' has no column whose name is known for the user; name it with --user" in error(
        "item,date\n1,2\n"
    )
    assert "--item: 't.csv' has no column 'prodct'; did you mean 'product'?" in error(
        "user,product\n1,2\n", "--item=prodct"
    )
    assert "not one row can be used: left out, since they have no user: 1 (line 2)" in error(
        "user,item\n,2\n"
    )
    assert "it has no rows" in error("user,item\n")
    assert "has several columns 'user'; rename all but one" in error("user,user\n1,2\n")
    assert "--text: 't.csv' has no column 'name'" in error("user,item\n1,2\n", "--text=name")
    Path("l.csv").write_bytes("user,item\nb\xe9,x\n".encode("latin-1"))
    done = CliRunner().invoke(main, ["convert", "l.csv", "--output=dataset/l"])
    assert "--encoding=cp1252" in done.output and not Path("dataset/l/l.inter").exists()
    done = CliRunner().invoke(
        main, ["convert", "l.csv", "--encoding=latin-1", "--output=dataset/l"]
    )
    assert columns("dataset/l/l.inter")["user_id:token"] == ["b\xe9"]


def test_columns_that_become_one_name_are_told_apart() -> None:
    orders = pd.DataFrame({"user": ["u"], "sku": ["a"], "time": [1]})
    items = pd.DataFrame({"sku": ["a"], "a b": ["x"], "a-b": ["y"], "item_id": ["z"], "item": "w"})
    recbole_llm.from_pandas(orders, "dataset/s", items=items, item="sku")
    assert columns("dataset/s/s.item") == {
        "item_id:token": ["a"],
        "a_b:token": ["x"],
        "a_b_2:token": ["y"],
        "item_id_2:token": ["z"],
        "item:token": ["w"],
    }


def test_a_column_of_numbers_keeps_its_type_to_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sources, "CHUNK", 2)
    orders = pd.DataFrame({"user": ["u"] * 4, "item": list("abcd"), "time": range(4)})
    items = pd.DataFrame({"item": list("abcd"), "price": ["1.5", "2.5", "free", "3"]})
    summary = recbole_llm.from_pandas(orders, "dataset/s", items=items)
    assert columns("dataset/s/s.item")["price:float"] == ["1.5", "2.5", "", "3"]
    (minded,) = (line for line in summary.lines() if "no numbers" in line)
    assert minded.endswith("values that are no numbers, left empty: 1 ('free')")


def test_small_numbers_may_have_an_exponent() -> None:
    orders = pd.DataFrame({"user": ["u"] * 3, "item": list("abc"), "time": range(3)})
    items = pd.DataFrame({"item": list("abc"), "score": [0.5, 1e-05, 2.25]})
    recbole_llm.from_pandas(orders, "dataset/s", items=items)
    assert columns("dataset/s/s.item")["score:float"] == ["0.5", "1e-05", "2.25"]


def test_the_last_ending_says_what_a_file_is() -> None:
    Path("o.json.csv").write_text("user,item,price:eur\nu,a,3.5\n")
    convert("o.json.csv", "dataset/s", roles=Roles(keep=["price:eur:float"]))
    assert columns("dataset/s/s.inter")["price:float"] == ["3.5"]


def test_a_later_chunk_may_lack_a_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sources, "CHUNK", 1)
    rows = [{"user": "u", "item": "a", "rating": 2.5}, {"user": "u", "item": "b"}]
    Path("o.jsonl").write_text("\n".join(map(json.dumps, rows)))
    summary = convert("o.jsonl", "dataset/s", roles=Roles(rating="rating"))
    assert columns("dataset/s/s.inter")["item_id:token"] == ["a"]
    assert any("since their rating cannot be read: 1 (line 2)" in said for said in summary.lines())


def test_objects_within_a_value_are_text() -> None:
    day = datetime(2024, 3, 1)
    assert text_of({"day": day, "all": np.array([1, 2])}) == (
        '{"day": "2024-03-01 00:00:00", "all": "1 2"}'
    )
    assert text_of({"cut": "\ud83d"}) == '{"cut": "?"}'


def test_files_that_cannot_be_read_say_why() -> None:
    def error(*arguments: str) -> str:
        done = CliRunner().invoke(main, ["convert", *arguments, "--output=dataset/t"])
        assert done.exit_code == 2 and done.output.count("\n") == 1, done.output
        return done.output

    text = "user,item,time\n" + "anna,tea,1\n" * 1000
    Path("t.csv").write_text(text)
    for unknown in ("latin9x", "hex"):
        assert f"--encoding: '{unknown}' is unknown" in error("t.csv", f"--encoding={unknown}")
    Path("cut.csv.gz").write_bytes(gzip.compress(text.encode())[:-20])
    assert "'cut.csv.gz' is cut off, or no gzip file" in error("cut.csv.gz")
    Path("none.csv.gz").write_text(text)
    assert "'none.csv.gz' is cut off, or no gzip file" in error("none.csv.gz")
    Path("l.jsonl").write_bytes('{"user": "b\xe9", "item": "x"}'.encode("latin-1"))
    assert "'l.jsonl' is not utf-8; name its encoding" in error("l.jsonl")
    Path("ml-latest").mkdir()
    assert "--items: a folder of MovieLens has its own" in error("ml-latest", "--items=t.csv")
    assert "--encoding: the encoding of MovieLens is known" in error(
        "ml-latest", "--encoding=latin-1"
    )


def test_movielens_folders() -> None:
    for name, ratings, movies in (
        ("ml-latest", ("ratings.csv", "userId,movieId,rating,timestamp\n1,2,4.5,964982703\n"),
         ("movies.csv", "movieId,title,genres\n2,Jumanji (1995),Adventure|Children\n")),
        ("ml-1m", ("ratings.dat", "1::2::4.5::964982703\n"),
         ("movies.dat", "2::Jumanji (1995)::Adventure|Children\n")),
        ("ml-100k", ("u.data", "1\t2\t4.5\t964982703\n"),
         ("u.item", "2|Jumanji (1995)|01-Jan-1995||http://x|0|0|1|0|1" + "|0" * 14 + "\n")),
    ):  # fmt: skip
        Path(name).mkdir()
        for file, text in (ratings, movies):
            (Path(name) / file).write_text(text, encoding="latin-1")
        convert(name, f"dataset/{name}")
        assert columns(f"dataset/{name}/{name}.inter") == {
            "user_id:token": ["1"], "item_id:token": ["2"], "rating:float": ["4.5"],
            "timestamp:float": ["964982703"],
        }  # fmt: skip
        items = columns(f"dataset/{name}/{name}.item")
        assert items["title:token_seq"] == ["Jumanji (1995)"]
        assert items["genres:token_seq"][0].startswith(("Adventure Children", "Animation Comedy"))
    Path("empty").mkdir()
    with pytest.raises(ValueError, match="without the files of a MovieLens data set"):
        convert("empty", "dataset/e")


def test_amazon_reviews_of_both_years() -> None:
    old = {"reviewerID": "u", "asin": "B1", "overall": 5.0, "unixReviewTime": 1252800000}
    new = {"user_id": "u", "parent_asin": "B1", "asin": "B0", "rating": 5.0,
           "timestamp": 1252800000123}  # fmt: skip
    meta = {"title": "Tea\tgreen", "images": [{"a": 1}], "description": ["long"]}
    for year, review, item in (
        (2018, old, {**meta, "asin": "B1", "brand": "Kado", "category": ["Food", "Tea"],
                     "also_buy": []}),
        (2023, new, {**meta, "parent_asin": "B1", "store": "Kado", "categories": ["Food", "Tea"]}),
    ):  # fmt: skip
        Path("r.jsonl").write_text(json.dumps(review), encoding="utf-8")
        Path("m.jsonl").write_text(json.dumps(item), encoding="utf-8")
        convert("r.jsonl", f"dataset/a{year}", "m.jsonl")
        inter = columns(f"dataset/a{year}/a{year}.inter")
        assert inter["item_id:token"] == ["B1"] and inter["rating:float"] == ["5"]
        assert inter["timestamp:float"] == ["1252800000" if year == 2018 else "1252800000.123"]
        texts = list(columns(f"dataset/a{year}/a{year}.item").values())
        assert texts == [["B1"], ["Tea green"], ["Kado"], ["Food Tea"]]


@pytest.mark.parametrize("ids", ["asin", "parent_asin", "movieId"])
def test_a_shop_that_calls_its_ids_as_amazon_does_keeps_its_columns(ids: str) -> None:
    orders = pd.DataFrame({"user": ["u"], ids: ["B1"]})
    products = pd.DataFrame({ids: ["B1"], "title": ["Tea"], "price": ["9.5"], "color": ["green"]})
    summary = recbole_llm.from_pandas(orders, "dataset/own", items=products)
    assert [name.partition(":")[0] for name in columns("dataset/own/own.item")] == [
        "item_id", "title", "price", "color",
    ]  # fmt: skip
    assert "unused" not in str(summary)


def test_columns_of_items_that_are_not_taken_are_named() -> None:
    orders = pd.DataFrame({"user": ["u"], "asin": ["B1"]})
    meta = pd.DataFrame({"asin": ["B1"], "title": ["Tea"], "also_buy": [""], "price": ["9.5"]})
    summary = recbole_llm.from_pandas(orders, "dataset/amazon", items=meta)
    assert "unused   of items: also_buy, price (--text=…" in str(summary)
    summary = recbole_llm.from_pandas(orders, "dataset/some", items=meta, text=["price"])
    assert "unused   of items: title, also_buy (--text=…" in str(summary)


@given(st.lists(st.lists(st.integers(0, 5), max_size=6), max_size=4))
def test_repeated_rows_are_seen_across_chunks(chunks: list[list[int]]) -> None:
    seen, known = _Seen(), set[int]()
    for chunk in chunks:
        again = seen.add(np.array(chunk, np.uint64)) if chunk else np.zeros(0, bool)
        assert again.tolist() == [v in known or v in chunk[:i] for i, v in enumerate(chunk)]
        known.update(chunk)


def test_a_look_at_what_was_seen_stays_short() -> None:
    """Hashes are kept in few arrays whatever the sizes of the chunks; here each is smaller."""
    seen = _Seen()
    for start, size in enumerate(range(200, 0, -1)):
        assert not seen.add(1000 * start + np.arange(size, dtype=np.uint64)).any()
    sizes = [len(known) for known in seen.sorted]
    assert sum(sizes) == 200 * 201 // 2
    assert all(one > 2 * two for one, two in zip(sizes, sizes[1:]))


@given(st.lists(st.text(st.characters(exclude_categories=["Cs"])), min_size=1, max_size=3))
def test_any_text_comes_back_in_one_field(texts: list[str]) -> None:
    frame = pd.DataFrame({"item": [f"i{n}" for n in range(len(texts))], "title": texts})
    recbole_llm.from_pandas(pd.DataFrame({"user": ["u"], "item": ["i0"]}), "dataset/h", items=frame)
    _, (field, back) = columns("dataset/h/h.item").items()
    if field == "title:float":  # numbers are written plainly
        return
    assert [text.split() for text in back] == [
        "".join(" " if c in "\t\r\n\v\f\0\x1c\x1d\x1e\x85\u2028\u2029" else c for c in text).split()
        for text in texts
    ]


def test_true_and_false_are_labels() -> None:
    Path("o.csv").write_text("user,item,clicked,fresh\nu,a,True,FALSE\nu,b,false,\nv,a, true ,1\n")
    command = ["convert", "o.csv", "--label=clicked", "--keep=fresh:float", "--output=o"]
    done = CliRunner().invoke(main, command)
    assert done.exit_code == 0, done.output
    fields = columns("o/o.inter")
    assert fields["label:float"] == ["1", "0", "1"]
    assert fields["fresh:float"] == ["0", "", "1"]


def test_flags_of_parquet_are_labels() -> None:
    pytest.importorskip("pyarrow")
    frame = pd.DataFrame({"user": ["u", "u", "v"], "item": ["a", "b", "a"]})
    frame.assign(label=[True, False, True]).to_parquet("o.parquet")
    convert("o.parquet", "o")
    assert columns("o/o.inter")["label:float"] == ["1", "0", "1"]


def test_labels_and_further_columns_are_kept() -> None:
    Path("o.csv").write_text(
        "user,item,clicked,action,price\nu1,a,0,view,1.5\nu1,b,1,buy,x\nu2,b,1,a\tb,2\n"
    )
    command = ["convert", "o.csv", "--label=clicked", "--keep=action,price:float"]
    done = CliRunner().invoke(main, [*command, "--output=my shop"])
    assert done.exit_code == 0, done.output
    assert columns("my shop/my shop.inter") == {
        "user_id:token": ["u1", "u1", "u2"], "item_id:token": ["a", "b", "b"],
        "label:float": ["0", "1", "1"], "action:token": ["view", "buy", "a b"],
        "price:float": ["1.5", "", "2"],
    }  # fmt: skip
    said = "values of 'price' left empty, since they are no numbers: 1 (line 3: 'x')"
    assert said in done.output
    assert "'--dataset=my shop' --topk=2 --valid_metric=MRR@2 --data_path=." in done.output


def test_a_further_column_of_several_words_is_kept() -> None:
    Path("o.csv").write_text("user,item,query\nu1,a,red\ttea\nu1,b,\nu2,b,tea\n")
    convert("o.csv", "o", roles=Roles(keep=["query:token_seq"]))
    assert columns("o/o.inter")["query:token_seq"] == ["red tea", "", "tea"]
    config = Config("BPR", "o", config_dict={"data_path": ".", "load_col": None})
    dataset = create_dataset(config)
    words = dataset.field2id_token["query"]
    assert [{*words[ids[ids > 0]]} for ids in dataset.inter_feat["query"]] == [
        {"red", "tea"}, set(), {"tea"},
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--item=user"], "column 'user' of 'o.csv' would be both user and item; name the"),
        (["--keep=acton"], "--keep: 'o.csv' has no column 'acton'; did you mean 'action'?"),
        (["--keep=action:seq"], "'action:seq' has an unknown type; use token, token_seq, float"),
        (["--date-format=%Q"], "--date-format: 'Q' is a bad directive in format '%Q'"),
        (["--output="], "--output: '' has no name; name a folder, such as dataset/shop"),
        (["--output=/"], "--output: '/' has no name"),
    ],
)
def test_what_cannot_be_meant(arguments: list[str], message: str) -> None:
    Path("o.csv").write_text("user,item,time,action\nu1,a,2024-01-01,view\n")
    done = CliRunner().invoke(main, ["convert", "o.csv", "--output=d/o", *arguments])
    assert done.exit_code == 2 and message in done.output
    assert not list(Path.cwd().rglob("*.inter"))


def test_both_files_or_none(shop: None) -> None:
    """An error in the items leaves the interactions as they were."""
    convert("orders.csv", "dataset/shop")
    before = Path("dataset/shop/shop.inter").read_text()
    Path("orders.csv").write_text(f"{ORDERS}9;dora;A1;2024-04-01;1.0\n")
    with pytest.raises(ValueError, match="--text: 'products.csv' has no column 'color'"):
        convert("orders.csv", "dataset/shop", "products.csv", roles=Roles(text=["color"]))
    assert Path("dataset/shop/shop.inter").read_text() == before
    with pytest.raises(ValueError, match="has no column 'color'"):
        convert("orders.csv", "dataset/new", "products.csv", roles=Roles(text=["color"]))
    assert not Path("dataset/new").exists()


def test_files_of_two_conversions_are_not_mixed(monkeypatch: pytest.MonkeyPatch) -> None:
    fcntl = pytest.importorskip("fcntl")
    Path("o.csv").write_text("user,item\nu1,a\n")
    Path("i.csv").write_text("item,title\na,Tea\n")
    put_in_place, replace = [], os.replace

    def replace_while_locked(part: Path, target: Path) -> None:
        folder = os.open("dataset/shop", os.O_RDONLY)
        with pytest.raises(BlockingIOError):  # another conversion would wait here
            fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.close(folder)
        put_in_place.append(Path(target).name)
        replace(part, target)

    monkeypatch.setattr(os, "replace", replace_while_locked)
    convert("o.csv", "dataset/shop", "i.csv")
    assert sorted(put_in_place) == ["shop.inter", "shop.item"]
    convert("o.csv", "dataset/shop", "i.csv")  # the first has let the folder go
    names = sorted(path.name for path in Path("dataset/shop").iterdir())
    assert names == ["shop.inter", "shop.item"]


def test_a_named_column_is_not_guessed_to_be_another() -> None:
    Path("clicks.csv").write_text(
        "user,item,ordered_at,stars\na,x,2024-01-01,1\nb,x,2024-01-02,0\n"
    )
    convert("clicks.csv", "dataset/clicks", roles=Roles(label="stars"))
    header = Path("dataset/clicks/clicks.inter").read_text().splitlines()[0]
    assert header == "user_id:token\titem_id:token\ttimestamp:float\tlabel:float"


def test_the_present_folder_has_a_name(monkeypatch: pytest.MonkeyPatch) -> None:
    Path("here").mkdir()
    Path("here/o.csv").write_text("user,item\nu1,a\n")
    monkeypatch.chdir("here")
    assert CliRunner().invoke(main, ["convert", "o.csv", "--output=."]).exit_code == 0
    assert Path("here.inter").is_file()


def test_columns_of_either_table_are_told_apart() -> None:
    Path("o.csv").write_text("user,item,time\nu1,a,2024-01-01\n")
    Path("i.csv").write_text("item,user,time\na,b c,d\n")
    done = CliRunner().invoke(main, ["convert", "o.csv", "--items=i.csv", "--output=o"])
    assert "columns  user → user_id:token, item → item_id:token, time → timestamp:f" in done.output
    assert "of items item → item_id:token, user → user:token_seq, time → time:token" in done.output
