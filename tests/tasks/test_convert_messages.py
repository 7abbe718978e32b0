"""Messages of the conversion of tables to users who have to correct something."""

from __future__ import annotations

import gzip
import re
from pathlib import Path

import pandas as pd
import pytest
from click.testing import CliRunner

import recbole_llm
from recbole_llm.cli import main
from recbole_llm.data.reading.files import Table
from recbole_llm.tasks.convert.columns import KNOWN, normalize_name

ROOT = Path(__file__).resolve().parents[2]
ORDER = "user,item,date\nu,a,{}\n"


def said(*arguments: str, code: int = 2) -> str:
    done = CliRunner().invoke(main, ["convert", *arguments, "--output=d/s"])
    assert done.exit_code == code, done.output
    return done.output


def texts(field: str) -> list[str]:
    found: list[str] = Table.read(Path("d/s/s.item")).columns[field].tolist()
    return found


def test_either_table_may_be_utf_8_or_another() -> None:
    orders, products = "user,item\nJörg,a\nJörg,b\n", "item,title\na,Grüner Tee – 5 €\nb,x\n"
    for one, two in (("utf-8", "cp1252"), ("cp1252", "utf-8-sig"), ("ascii", "utf-16")):
        Path("o.csv").write_bytes(orders.encode(one, "replace"))
        Path("p.csv").write_bytes(products.encode(two))
        other = two if two in ("cp1252", "utf-16") else one
        said("o.csv", "--items=p.csv", f"--encoding={other}", code=0)
        assert texts("title") == ["Grüner Tee – 5 €", "x"]
    Path("p.csv").write_bytes("item,title\na,日本\n".encode("iso2022_jp"))  # all bytes are ASCII
    said("o.csv", "--items=p.csv", "--encoding=iso2022_jp", code=0)
    assert texts("title") == ["日本"]


def test_the_encoding_that_is_likely_is_named() -> None:
    Path("o.csv").write_text("user,item\nu,a\n")
    Path("p.csv").write_bytes("item,title\na,Tee – 5 €\n".encode("cp1252"))
    assert "'p.csv' is not utf-8; name its encoding, such as --encoding=cp1252" in said(
        "o.csv", "--items=p.csv"
    )
    Path("p.csv").write_bytes("item,title\na,Tee – 5 €\n".encode("utf-16"))
    assert "--encoding=utf-16" in said("o.csv", "--items=p.csv")
    Path("p.csv").write_bytes(b"item,title\na,\x81\xff\n")
    assert "is not cp1252; name its encoding, such as --encoding=latin-1" in said(
        "o.csv", "--items=p.csv", "--encoding=cp1252"
    )


def test_all_roles_that_are_missing_are_named_at_once() -> None:
    Path("o.csv").write_text("Kunde,Artikel,Zeit\nu,a,2024-01-01\n")
    output = said("o.csv")
    assert "name is known for the user or the item or the time (which may be left out); " in output
    assert "name them with --user=…, --item=…, --time=…: its columns are Kunde, Artikel" in output
    output = said("o.csv", "--user=Kunde", "--time=none")
    assert "known for the item; name it with --item=…: its columns are Kunde" in output


@pytest.mark.parametrize(
    ("date", "form"),
    [
        ("01.02.2024", "--date-format=%d.%m.%Y, or '%m.%d.%Y'"),
        ("03/04/24", "--date-format=%d/%m/%y, or '%m/%d/%y'"),
        ("01.02.2024 10:30", "--date-format='%d.%m.%Y %H:%M', or '%m.%d.%Y %H:%M'"),
        ("01.02.2024 um 10", "--date-format=%d.%m.%Y"),
    ],
)
def test_a_date_that_may_be_two_has_both_forms_named(date: str, form: str) -> None:
    Path("o.csv").write_text(ORDER.format(date))
    assert form in said("o.csv")


def test_a_time_that_does_not_fit_is_shown_with_its_format() -> None:
    Path("o.csv").write_text(ORDER.format("01.02.2024"))
    assert (
        "left out, since their time does not fit --date-format=%d/%m/%Y: 1 (line 2: '01.02.2024')"
    ) in said("o.csv", "--date-format=%d/%m/%Y")


def test_one_date_of_digits_that_is_none_makes_no_numbers_of_the_others() -> None:
    Path("o.csv").write_text("user,item,date\nu,a,20240102\nu,b,0\nu,c,20240301\n")
    left_out = "left out, since their time cannot be read: 1 (line 3: '0')"
    assert left_out in said("o.csv", "--time=date", code=0)
    assert Table.read(Path("d/s/s.inter")).columns["timestamp"].tolist() == [
        "1704153600", "1709251200",
    ]  # fmt: skip


def test_a_column_of_texts_that_is_not_there_has_its_near_match() -> None:
    Path("o.csv").write_text("user,item,title\nu,a,Tee\n")
    assert "no column 'titel'; did you mean 'title'? its col" in said("o.csv", "--text=titel")
    assert "no column 'xyz'; its columns are user" in said("o.csv", "--text=xyz")


def test_python_is_told_its_own_names() -> None:
    def error(table: dict[str, list[object]], **roles: object) -> str:
        with pytest.raises(ValueError) as caught:
            recbole_llm.from_pandas(pd.DataFrame(table), "d/s", **roles)
        assert "--" not in str(caught.value)
        return str(caught.value)

    good: dict[str, list[object]] = {"user": ["u"], "item": ["a"]}
    assert "name them with user=…, item=…, time=…: its columns are a" in error({"a": [1]})
    assert error(good, user="usr").startswith("user: 'interactions' has no column 'usr'; did you")
    assert error(good, text=["title"]).startswith("text: 'interactions' has no column 'title'")
    assert error(good, keep=["item:x"]).startswith("keep: 'item:x' has an unknown type")
    assert "date_format='%d.%m.%Y'" in error({**good, "date": ["01.02.2024"]})
    assert "date_format: " in error({**good, "date": ["x"]}, date_format="%Q")
    assert "date_format='%Y'" in error({**good, "date": ["x"]}, date_format="%Y")
    assert "such as date_format=" in error({**good, "date": ["soon"]})
    assert "name the columns with user, item, " in error(good, item="user")
    summary = recbole_llm.from_pandas(pd.DataFrame({**good, "rating": ["x"]}), "d/s")
    assert any("; rating='rating' takes it" in problem for problem in summary.problems)
    assert any("need them (time=…)" in line for line in summary.lines())


@pytest.mark.parametrize(
    ("given", "named"),
    [
        ({"user": ["u"] * 999}, "dict$"),
        (pd.Series(["u"] * 999), "pandas.Series$"),
        (Path("o.csv"), "'o.csv'; convert reads files$"),
        (type("Frame", (), {"to_pandas": 1, "__module__": "polars.dataframe"})(),
         "polars.Frame; its method to_pandas makes one$"),
    ],
)  # fmt: skip
def test_what_is_no_data_frame_is_refused_by_its_type(given: object, named: str) -> None:
    message = f"^interactions: expected a pandas data frame, got {named}"
    with pytest.raises(ValueError, match=message):
        recbole_llm.from_pandas(given, "d/s")  # type: ignore[arg-type]


def test_columns_of_one_name_are_refused() -> None:
    frame = pd.DataFrame([["u", "a", "b"]], columns=["user", "item", "item"])
    with pytest.raises(ValueError, match="items: expected a pandas data frame, got 'items.csv'; "):
        recbole_llm.from_pandas(frame, "d/s", items="items.csv")
    with pytest.raises(ValueError, match="'interactions' has several columns 'item'; rename all"):
        recbole_llm.from_pandas(frame, "d/s")
    Path("o.csv").write_text("user,item,item\nu,a,b\n")
    assert "'o.csv' has several columns 'item'; rename all but one" in said("o.csv")
    parquet = pytest.importorskip("pyarrow.parquet")
    pyarrow = pytest.importorskip("pyarrow")
    table = pyarrow.table([["u"], ["a"], ["b"]], names=["user", "item", "item"])
    parquet.write_table(table, "o.parquet")
    assert "'o.parquet' has several columns 'item'" in said("o.parquet")


def test_rows_that_were_not_clicked_are_no_interactions_of_the_next_command() -> None:
    Path("o.csv").write_text("user,item,time,label\nu,a,1,1\nu,b,2,0\nu,c,3,1\n")
    output = said("o.csv", code=0)
    assert "mind     1 row of label 0: without --val_interval a run takes them" in output
    assert '--val_interval={"label": "[1,inf)"}' in output.splitlines()[-1]
    for label in (0, 1):  # if all labels are equal, there is nothing to choose
        Path("o.csv").write_text(f"user,item,time,label\nu,a,1,{label}\nu,b,2,{label}\n")
        output = said("o.csv", code=0)
        assert "val_interval=" not in output and ("of label 0" in output) is (label == 0)


def test_the_page_names_every_column_that_is_recognised() -> None:
    page = (ROOT / "docs" / "own-data.md").read_text(encoding="utf-8")
    rows = dict(re.findall(r"^\| `--(\w+)` \| (.+) \|$", page, re.MULTILINE))
    for role, names in KNOWN.items():
        if names:
            assert (
                tuple(normalize_name(name) for name in re.findall(r"`(\w+)`", rows[role])) == names
            )
    assert "--date-format" in page and "--encoding" in page


def test_names_that_become_one_are_told_apart() -> None:
    frame = pd.DataFrame({"user": ["u"], "item": ["i"], "a b": ["x"], "a-b": ["y"], "rating": [3]})
    recbole_llm.from_pandas(frame, "d/s", keep=["a b", "a-b", "rating:float"])
    header, row = Path("d/s/s.inter").read_text(encoding="utf-8").splitlines()
    fields = dict(zip(header.split("\t"), row.split("\t"), strict=True))
    assert len(fields) == 5 and {"x", "y"} < set(fields.values())
    assert float(fields["rating:float"]) == 3


def test_a_byte_order_mark_is_no_part_of_a_name() -> None:
    Path("o.csv").write_bytes("\ufeffuser_id,item_id\nu,i\n".encode())
    with gzip.open("o.CSV.GZ", "wb") as file:
        file.write(Path("o.csv").read_bytes())
    for name in ("o.csv", "o.CSV.GZ"):
        arguments = [name, "--user=user_id", "--encoding=utf-8", "--output=d/s"]
        assert CliRunner().invoke(main, ["convert", *arguments]).exit_code == 0


def test_a_table_that_is_not_there_leaves_no_folder() -> None:
    done = CliRunner().invoke(main, ["convert", "missing.csv", "--output=d/new"])
    assert done.exit_code == 2 and not Path("d/new").exists()


def test_ids_that_are_written_without_their_tabs_and_line_ends_are_told() -> None:
    """Ids that were different may be equal now."""
    users = ["a\tb", "a b", "c\rd", "e"]
    orders = pd.DataFrame({"user": users, "item": ["x\ny", "z", "z", "z"], "shop": ["s\t1"] * 4})
    items = pd.DataFrame({"item": ["x\ny", "z"], "title": ["Tea", "Mug"]})
    lines = recbole_llm.from_pandas(orders, "d/s", items=items, keep=["shop"]).lines()
    minded = [line[9:] for line in lines if line.startswith("mind")]
    assert "tabs or line ends in 'user', now spaces: 2 (line 1: 'a b', line 3: 'c d')" in minded
    assert "tabs or line ends in 'item', now spaces: 1 (line 1: 'x y')" in minded
    assert any(said.startswith("tabs or line ends in 'shop', now spaces: 4 (") for said in minded)
    assert any(said.endswith("tabs or line ends in ids, now spaces: 1 ('x y')") for said in minded)
    orders["title"] = ["Tea", "Mug", "Mug", "Mug"]
    one_table = recbole_llm.from_pandas(orders, "d/s", text=["title"]).lines()
    assert sum("'x y'" in line for line in one_table) == 1


def test_items_without_text_are_not_counted_among_the_texts() -> None:
    orders = pd.DataFrame({"user": ["u", "v"], "item": ["x", "y"], "time": [1, 2]})
    for titles, said, model in (
        (["Tea", None], "of 1 of 2 items, from title; 1 row without text", "PAD"),
        ([None, None], "of 0 of 2 items, from title; 2 rows without text", "SASRec"),
    ):
        items = pd.DataFrame({"item": ["x", "y"], "title": titles})
        lines = recbole_llm.from_pandas(orders, "d/s", items=items).lines()
        assert f"texts    {said}" in lines
        assert f"--model={model} " in lines[-1]


def test_ids_that_are_alike_only_as_numbers_are_told() -> None:
    orders = pd.DataFrame({"user": list("uvwx"), "item": ["12.0", "007", "x", "8"], "time": 1})
    items = pd.DataFrame({"item": ["12", "7", "8", "08", "y"], "title": "tea"})
    lines = recbole_llm.from_pandas(orders, "dataset/s", items=items).lines()
    told = [line for line in lines if "only as numbers" in line]
    assert len(told) == 1 and told[0].endswith("tables: 2 (007 and 7, 12.0 and 12)")


@pytest.mark.parametrize(("last", "told"), [(1, True), (2, False)])
def test_times_that_are_all_the_same_are_told(last: int, told: bool) -> None:
    orders = pd.DataFrame({"user": ["u", "v"], "item": ["a", "b"], "time": [1, last]})
    lines = recbole_llm.from_pandas(orders, "dataset/s").lines()
    assert any("all times are the same" in line for line in lines) == told


@pytest.mark.parametrize("n_items", [5, 10])
def test_the_next_command_fits_a_small_catalogue(n_items: int) -> None:
    names = [f"i{i}" for i in range(n_items)]
    orders = pd.DataFrame({"user": "u", "item": names, "time": range(n_items)})
    lines = recbole_llm.from_pandas(orders, "dataset/s").lines()
    assert lines[-1].endswith("--topk=5 --valid_metric=MRR@5") == (n_items == 5)
