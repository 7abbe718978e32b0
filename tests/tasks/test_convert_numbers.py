"""Numbers as shops write them, in users' own tables."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

import recbole_llm
from recbole_llm.cli import main
from recbole_llm.data.reading.files import Table
from recbole_llm.tasks.convert import sources
from recbole_llm.tasks.convert.numbers import detect_numbers

GROUPS = {".": [",", "'", "’", " ", ""], ",": [".", "'", " ", "\xa0", "\u202f", ""]}
UNITS = ["{}", "{} €", "{}€", "€ {}", "EUR {}", "{} EUR", "${}", "-{} zł", "{} %", "\xa0{}\xa0kr "]


def columns(file: str) -> dict[str, list[str]]:
    table = Table.read(Path(file))
    return {f"{f}:{t}": table.columns[f].tolist() for f, t in table.types.items()}


def items(values: list[str]) -> tuple[str, list[str], list[str]]:
    """Type and values of a column of items, and the problems that are reported."""
    orders = pd.DataFrame({"user": ["u"], "item": ["i0"]})
    table = pd.DataFrame({"item": [f"i{n}" for n in range(len(values))], "x": values})
    summary = recbole_llm.from_pandas(orders, "dataset/i", items=table)
    _, (name, written) = columns("dataset/i/i.item").items()
    return name, written, [said for said in summary.problems if "but no row" not in said]


@given(
    st.lists(st.decimals(0, 10**9, places=2), min_size=1),
    st.sampled_from([(d, g) for d in GROUPS for g in GROUPS[d]]),
    st.sampled_from(UNITS),
)
def test_every_number_that_is_written_comes_back(
    values: list[object], signs: tuple[str, str], unit: str
) -> None:
    decimal, group = signs
    at = {",": group, ".": decimal}
    texts = [unit.format("".join(at.get(c, c) for c in f"{value:,}")) for value in values]
    found = detect_numbers(["", *texts])
    assert found.exact and found.most and not found.doubt and not found.other
    minus = "-" if unit.startswith("-") else ""
    assert found.numbers is not None
    assert [found.numbers.plain(text) for text in texts] == [f"{minus}{value}" for value in values]


@given(
    st.lists(
        st.one_of(
            st.from_regex(r"\A[0-9]{1,14}\Z"),  # ids, years, EANs, postal codes
            st.dates().map(lambda day: day.strftime("%d.%m.%Y")),
            st.dates().map(str),
            st.from_regex(r"\A97[89]-[0-9]-[0-9]{2,5}-[0-9]{3,6}-[0-9X]\Z"),
            st.from_regex(r"\A0[0-9]{1,4}([.,][0-9]{2})?\Z").filter(lambda t: t[1].isdigit()),
            st.from_regex(r"\A\+?[1-9][0-9]( [0-9]{3}){2,3}\Z"),  # telephone numbers
            st.from_regex(r"\A[1-9][0-9]{0,2}(\.[0-9]{3}){2}\Z"),  # article numbers
        ),
        min_size=1,
    )
)
def test_ids_and_dates_are_no_numbers(texts: list[str]) -> None:
    assert not detect_numbers(texts).exact


@given(st.lists(st.text(st.sampled_from("0123456789.,' -€%$EURx"))))
def test_a_reading_is_a_number_or_none(texts: list[str]) -> None:
    found = detect_numbers(texts)
    for text in texts if found.numbers is not None else []:
        plain = found.numbers.plain(text)
        assert plain is None or repr(float(plain))
        assert plain is not None or found.other or not text.strip()


@pytest.mark.parametrize(
    ("values", "kind", "written"),
    [
        (["47,92 €", "3,50 €", "", "1.200,00 €"], "float", ["47.92", "3.50", "", "1200.00"]),
        (["3,50", "12", "-0,5"], "float", ["3.50", "12", "-0.5"]),
        (["$1,299.00", "$5"], "float", ["1299.00", "5"]),
        (["19 %", "7%"], "float", ["19", "7"]),
        (["3.50", "1.200"], "float", ["3.50", "1.200"]),  # read as plain numbers
        (["1995", "2001"], "token", ["1995", "2001"]),
        (["01067", "80331"], "token", ["01067", "80331"]),
        (["123.456.789", "1.234.567"], "token", ["123.456.789", "1.234.567"]),
        (["01.02.2024", "11.12.2023"], "token", ["01.02.2024", "11.12.2023"]),
    ],
)
def test_columns_of_items(values: list[str], kind: str, written: list[str]) -> None:
    assert items(values) == (f"x:{kind}", written, [])


@pytest.mark.parametrize(
    ("values", "why"),
    [
        (["47,92 €", "3.50 €"], "'3.50 €' has a decimal point, '47,92 €' a decimal comma"),
        (["1.200 €", "2.500 €"], "'1.200 €' may be 1200 or 1.200"),
        (["3.50 €", "1.200 €"], "'1.200 €' may be 1200 or 1.200"),
        (["47,92 €", "$3,50"], "'$3,50' and '47,92 €' have different units"),
        (["19 %", "0,19"], "'0,19' and '19 %' have different units"),
        (["3,50", "4,50", "auf Anfrage"], "'auf Anfrage' is no number"),
    ],
)
def test_what_only_looks_like_numbers_stays_text(values: list[str], why: str) -> None:
    kind, written, said = items(values)
    assert written == values and kind != "x:float"
    assert said == [f"'items': 'x' stays text, though it looks like numbers: {why}"]


def test_late_numbers_that_are_written_otherwise_are_left_empty(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sources, "CHUNK", 2)
    kind, written, said = items(["3,50 €", "4,50 €", "5.5 €", "1.500,50"])
    assert (kind, written) == ("x:float", ["3.50", "4.50", "", "1500.50"])
    assert said == ["'items': values that are no numbers, left empty: 1 ('5.5 €')"]


RATED = "user;item;rating\nu1;a;4,5\nu1;b;{}\nu2;a;3\nu2;b;5\n"


def rated(value: str, *options: str) -> tuple[dict[str, list[str]], str]:
    Path("r.csv").write_text(RATED.format(value), encoding="utf-8")
    done = CliRunner().invoke(main, ["convert", "r.csv", "--output=r", *options])
    assert done.exit_code == 0, done.output
    return columns("r/r.inter"), done.output


@pytest.mark.parametrize("chunk", [1, 2, 1000])
def test_a_guessed_rating_costs_no_rows(chunk: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sources, "CHUNK", chunk)
    found, said = rated("")
    assert found == {"user_id:token": ["u1", "u1", "u2", "u2"], "item_id:token": list("abab")}
    minded = [line for line in said.splitlines() if line.startswith("mind")]
    assert minded == [
        "mind     column 'rating' is not taken for the rating, since not all of its values are "
        "numbers (line 3: ''); --rating=rating takes it, and leaves such rows out"
    ]
    assert "size     2 users, 2 items, 4 interactions" in said and "unused   rating" in said
    found, said = rated("", "--rating=rating")
    assert found["rating:float"] == ["4.5", "3", "5"]
    assert "left out, since their rating cannot be read: 1 (line 3)" in said


def test_decimal_commas_of_ratings_are_read_where_all_agree() -> None:
    found, said = rated("2,5")
    assert found["rating:float"] == ["4.5", "2.5", "3", "5"] and "mind" not in said
    found, said = rated("2.5")
    assert "rating:float" not in found
    assert "numbers: '2.5' has a decimal point, '4,5' a decimal comma (line 2: '4,5')" in said
    found, said = rated("1e-1", "--rating=rating")
    assert found["rating:float"] == ["4.5", "0.1", "3", "5"]


def test_guesses_can_be_switched_off() -> None:
    Path("g.csv").write_text("user,item,rating,date,label\nu,a,1,2024-01-01,1\n")
    off = ["--rating=none", "--time=none", "--label=none"]
    done = CliRunner().invoke(main, ["convert", "g.csv", "--output=g", *off])
    assert done.exit_code == 0, done.output
    assert list(columns("g/g.inter")) == ["user_id:token", "item_id:token"]
    Path("g.csv").write_text("user,item,rating,none\nu,a,1,2\n")
    done = CliRunner().invoke(main, ["convert", "g.csv", "--output=g", "--rating=none"])
    assert columns("g/g.inter")["rating:float"] == ["2"]
    done = CliRunner().invoke(main, ["convert", "g.csv", "--output=g", "--label=nil"])
    assert "--label: 'g.csv' has no column 'nil'" in done.output


def test_kept_numbers_cost_no_rows() -> None:
    frame = pd.DataFrame({"user": list("uuvv"), "item": list("abcd")})
    frame["price"] = ["3,50 €", "1.200,00 €", "auf Anfrage", ""]
    summary = recbole_llm.from_pandas(frame, "dataset/k", keep=["price:float"])
    assert columns("dataset/k/k.inter")["price:float"] == ["3.5", "1200", "", ""]
    assert summary.problems == [
        "values of 'price' left empty, since they are no numbers: 1 (line 3: 'auf Anfrage')"
    ]
    config = {"epochs": 1, "show_progress": False, "eval_args": {"split": {"RS": [1, 0, 0]}}}
    config |= {"load_col": {"inter": ["user_id", "item_id", "price"]}, "data_path": "dataset"}
    config |= {"eval_step": 0, "topk": [1], "valid_metric": "MRR@1"}
    assert "test_result" in recbole_llm.run_recbole_llm("Pop", "k", config_dict=config)
