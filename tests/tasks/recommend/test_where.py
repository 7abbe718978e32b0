"""Conditions on items' fields."""

from __future__ import annotations

import ast
from unittest import mock

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from recbole_llm.tasks.recommend.where import match_items

FIELDS = {
    "category": ["tea", "black tea", "mug", ""],
    "price": ["3", "9.50", "", "-1"],
    "year": ["1995", "2001", "1995", "n/a"],
    "class": ["a", "`b`", "a", ""],
    "from_": ["a", "", "b", ""],
    "unit price": ["1", "2", "3", "4"],
    "2020 m²": ["9", "10", "", "4"],
    "Preis": ["", "47,92 €", "3,50 €", ""],
}


@pytest.mark.parametrize(
    ("expression", "items"),
    [
        ("category == 'tea'", [0]),
        ("'tea' == category", [0]),
        ("category != 'tea'", [1, 2, 3]),
        ("'tea' in category", [0, 1]),
        ("'tea' not in category", [2, 3]),
        ("category in ['tea', 'mug']", [0, 2]),
        ("category not in ('tea', 'mug')", [1, 3]),
        ("price < 5", [0, 3]),
        ("-2 < price <= 3", [0, 3]),
        ("price == 9.5", [1]),
        ("price != 9.5", [0, 3]),
        ("year == 1995", [0, 2]),
        ("year == '1995'", [0, 2]),
        ("year in [1995]", [0, 2]),
        ("category == 'tea' or price > 5 and year == 2001", [0, 1]),
        ("not (category == 'tea' or price > 5)", [2, 3]),
        ("category == category", [0, 1, 2, 3]),
        ("category >= 'm'", [0, 2]),
        ("`class` == 'a' and `unit price` > 1", [2]),
        ("`2020 m²` > 9", [1]),
        ("price < `2020 m²`", [0, 1, 3]),
        ("`unit price` == `2020 m²`", [3]),
        ("category < `unit price`", [3]),
        ("`class` == '`b`' or `category` == `category` and `class` == ''", [1, 3]),
    ],
)
def test_which_items_match(expression: str, items: list[int]) -> None:
    assert np.flatnonzero(match_items(expression, FIELDS)).tolist() == items


@pytest.mark.parametrize(
    ("expression", "message"),
    [
        ("categry == 'tea'", "where: the field 'categry' is unknown; did you mean 'category'?"),
        ("category = 'tea'", "cannot be read (invalid syntax); equality is ==, and a field"),
        (
            "category == tea",
            "price, year, class, from_, unit price, 2020 m², Preis; a text stands in quotes: 'tea'",
        ),
        ("class == 'a'", "the field 'class' stands in backquotes, since its name is a keyword"),
        ("from == 'a'", "'from' is a keyword; the field's name is 'from_'"),
        ("for == 'a'", "and a field whose name is a keyword, or has spaces, stands in"),
        ("`clas` == 'a'", "where: the field 'clas' is unknown; did you mean 'class'?"),
        ("`class` < 3", "where: 'class' holds texts such as 'a', not numbers"),
        ("'category' == 'tea'", "neither 'category' nor 'tea' is a field"),
        ("category", "'category' is no comparison"),
        ("__import__('os').system('true') == 0", "is no field, text, number or list"),
        ("category.__class__ == 'x'", "is no field, text, number or list"),
        ("(lambda: 1)() == 1", "is no field, text, number or list"),
        ("f'{price}' == '3'", "is no field, text, number or list"),
        ("[x for x in category] == 1", "is no field, text, number or list"),
        ("category == ['tea']", "a list goes with 'in'"),
        ("category is 'tea'", "all else with == != < <= > >="),
        ("'a' in 'abc'", "neither 'a' nor 'abc' is a field"),
        ("price < 'x'", "a field of numbers is compared with the text 'x'"),
        ("price in [[3]]", "'[3]' is no field, text, number or list"),
        ("price < {[]}", "'{[]}' is no field, text, number or list"),
        ("price < -'x'", "'-'x'' is no field, text, number or list"),
        ("price < -category", "'-category' is no field, text, number or list"),
        ("'x' >= price", "a field of numbers is compared with the text 'x'"),
        ("3 < 'x'", "neither 3 nor 'x' is a field"),
        ("price < 'x'", "compared with the text 'x'"),
        ("Preis < 5", "where: 'Preis' holds texts such as '47,92 €', not numbers, so that < and"),
        ("1 < Preis", "where: 'Preis' holds texts such as '47,92 €', not numbers"),
        ("1 < price < 4 and Preis >= 50", "'Preis' holds texts such as '47,92 €', not numbers"),
        ("(" * 5000 + "1", "cannot be read"),
        ("price == " + "9" * 20_000, "at most 10,000 characters"),
        ("price == 1" + "0" * 400, "cannot be read"),
    ],
)
def test_everything_else_is_refused(expression: str, message: str) -> None:
    with pytest.raises(ValueError, match="where: ") as caught:
        match_items(expression, FIELDS)
    assert message in str(caught.value)


@given(st.text(max_size=40))
def test_no_text_does_anything_but_match_or_be_refused(expression: str) -> None:
    try:
        found = match_items(expression, FIELDS)
    except ValueError as error:
        assert "where: " in str(error)
    else:
        ast.parse(expression.strip(), mode="eval")
        assert found.shape == (4,) and found.dtype == bool


@pytest.mark.parametrize(
    ("expression", "reads"),
    [
        ("genre == 'tea'", 0),
        ("genre in ['tea', 'mug']", 0),
        ("genre not in ['cup']", 0),
        ("price < 5", 1),
        ("price == 3", 1),
    ],
)
def test_a_column_is_read_as_numbers_only_once_and_if_needed(
    expression: str, reads: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Reading a column as numbers takes 20 times as long as the comparison."""
    read = mock.Mock(side_effect=pd.to_numeric)
    monkeypatch.setattr("recbole_llm.tasks.recommend.where.pd.to_numeric", read)
    fields = {"genre": ["tea", "cup"], "price": ["3", "9"]}
    assert list(match_items(expression, fields)) == [True, False]
    assert read.call_count == reads
