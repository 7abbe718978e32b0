"""Lines for a terminal."""

from __future__ import annotations

import sys

import click
import pytest

from recbole_llm.core.lines import aligned, say_meanwhile


def test_columns_are_as_wide_as_their_widest_cell_whatever_its_style() -> None:
    bold = click.style(".2", bold=True)
    lines = list(aligned([["model", "x", "last"], ["A", "12345", "."], ["BB", bold, "!"]]))
    assert lines == ["model  x      last", "A      12345  .", f"BB     {bold}     !"]
    lines = list(aligned([["model", "x", "last"], ["A", "12345", "."], ["BB", bold, "!"]], True))
    assert lines == ["model      x  last", "A      12345     .", f"BB        {bold}     !"]


def test_what_takes_a_while_is_said_on_a_terminal_alone(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    say_meanwhile("loading x")
    assert capsys.readouterr().err == ""
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    say_meanwhile("loading x")
    assert capsys.readouterr() == ("", "loading x …\n")
