"""Lines for a terminal."""

from __future__ import annotations

import logging
import sys

import click
import pytest

from recbole_llm.core.lines import aligned, bar, say_meanwhile, shows_progress
from recbole_llm.core.log import Screen
from recbole_llm.trainers.progress import Progress


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


class Captured:
    """A stand-in for a standard stream, with only what `print` needs."""

    def __init__(self) -> None:
        self.said = ""

    def write(self, text: str) -> None:
        self.said += text

    def flush(self) -> None:
        pass


def test_a_stream_without_isatty_is_no_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    err = Captured()
    monkeypatch.setattr(sys, "stderr", err)
    say_meanwhile("loading x")
    assert list(bar(range(2), shown=True)) == [0, 1]
    progress = Progress("NDCG")
    progress.shown = True
    with progress.training(name="", limit=1, patience=1):
        progress.validated(0.5, True)
    assert err.said == ""
    screen = Screen(verbose=False, results=False)
    screen.handle(logging.makeLogRecord({"msg": "mind", "levelname": "WARNING", "levelno": 30}))
    assert err.said == "warning: mind\n"


def test_a_pipe_gets_a_line_a_minute_in_place_of_a_bar(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    now = iter(range(0, 4000, 25))  # seconds; an update reads the clock once, a line once more
    monkeypatch.setattr("tqdm.std.time", lambda: float(next(now)))
    with bar(total=9, desc="Writing", unit="text", shown=True) as told:
        for _ in range(9):
            told.update(1)
            told.set_postfix_str("9 tokens/s", refresh=False)
    said = capsys.readouterr().err.splitlines()
    assert 2 <= len(said) <= 4
    assert all(line.startswith("Writing: ") and " of 9 [" in line for line in said)
    assert said[-1].endswith("9 tokens/s]")
    assert list(bar(range(6), desc="Writing", shown=False)) == list(range(6))
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    ("value", "shown"), [(None, True), (True, True), (1, True), (False, False), (0, False)]
)
def test_progress_is_shown_unless_the_key_says_no(value: object, shown: bool) -> None:
    assert shows_progress({"show_progress": value}) is shown
