"""Rows as lines."""

from __future__ import annotations

import click

from recbole_llm.core.lines import aligned


def test_columns_are_as_wide_as_their_widest_cell_whatever_its_style() -> None:
    bold = click.style(".2", bold=True)
    lines = list(aligned([["model", "x", "last"], ["A", "12345", "."], ["BB", bold, ""]]))
    assert lines == ["model  x      last", "A      12345  .", f"BB     {bold}"]
