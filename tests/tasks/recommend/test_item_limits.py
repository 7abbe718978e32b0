"""Limits on the items that may be recommended."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner

from recbole_llm import recommend
from recbole_llm.cli import main


def recommended(checkpoint: str, *argv: str) -> str:
    """The output of the command for u1, whose own items may be recommended too."""
    given = [f"--checkpoint={checkpoint}", "--users=u1", "--keep-history", *argv]
    done = CliRunner().invoke(main, ["recommend", *given])
    assert done.exit_code == 0, done.output
    return done.output


def test_candidates_and_excluded_items_come_from_files(checkpoints: dict[str, str]) -> None:
    Path("only.txt").write_text("i1\ni2\ni3\ni4\n\n")
    Path("never.txt").write_text("i2\n")
    output = recommended(checkpoints["SASRec"], "--candidates=only.txt", "--exclude=never.txt")
    assert {row.split(",")[2] for row in output.splitlines()[1:]} == {"i1", "i3", "i4"}


def test_unknown_excluded_items_are_named(checkpoints: dict[str, str]) -> None:
    Path("only.txt").write_text("i1\ni2\ni3\ni4\n")
    Path("newer.txt").write_text("i1\ni9998\ni9999\n")
    output = recommended(checkpoints["SASRec"], "--candidates=only.txt", "--exclude=newer.txt")
    assert "mind: unknown items of exclude, left out: 2 (i9998, i9999)" in output
    assert "\nu1,1,i" in output and ",i1," not in output


def test_of_an_option_given_twice_the_last_counts(checkpoints: dict[str, str]) -> None:
    Path("only.txt").write_text("i1\ni2\ni3\ni4\n")
    Path("newer.txt").write_text("i1\ni9998\ni9999\n")
    twice = ["--candidates=newer.txt", "--candidates=only.txt"]
    output = recommended(checkpoints["SASRec"], *twice)
    assert output == recommended(checkpoints["SASRec"], twice[1])


def test_unknown_candidates_are_named(checkpoints: dict[str, str]) -> None:
    Path("newer.txt").write_text("i1\ni9998\ni9999\n")
    output = recommended(checkpoints["SASRec"], "--candidates=newer.txt")
    assert "mind: unknown items of candidates, left out: 2 (i9998, i9999)" in output


def test_only_unknown_items_may_be_excluded(checkpoints: dict[str, str]) -> None:
    Path("new.txt").write_text("i9999\n")
    recommended(checkpoints["SASRec"], "--exclude=new.txt")


def test_candidates_without_a_known_one_are_refused(checkpoints: dict[str, str]) -> None:
    Path("new.txt").write_text("i9999\n")
    given = [f"--checkpoint={checkpoints['SASRec']}", "--users=u1", "--candidates=new.txt"]
    done = CliRunner().invoke(main, ["recommend", *given, "--keep-history"])
    assert done.exit_code == 2 and "candidates: 'i9999' is unknown" in done.output


def test_a_condition_limits_the_items(checkpoints: dict[str, str]) -> None:
    found = recommend(checkpoints["SASRec"], "u1", k=99, where="genre == 'horror' and price < 3")
    table = pd.read_csv("dataset/tiny/tiny.item", sep="\t", dtype=str).set_index("item_id:token")
    rows = table.loc[found["item"]]
    assert set(rows["genre:token"]) == {"horror"} and (rows["price:float"].astype(float) < 3).all()


@pytest.mark.parametrize(
    ("limits", "message"),
    [
        ({"candidates": ["i9999"]}, "candidates: 'i9999' is unknown"),
        ({"candidates": ["i1"], "exclude": ["i1"]}, "candidates and exclude: no item is left"),
        ({"where": "color == 'red'"}, "where: the field 'color' is unknown"),
    ],
)
def test_limits_that_no_item_meets_are_refused(
    checkpoints: dict[str, str], limits: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        recommend(checkpoints["SASRec"], "u1", **limits)


def test_nothing_excluded_is_no_error(checkpoints: dict[str, str]) -> None:
    every = recommend(checkpoints["SASRec"], "u1", k=np.int64(3))
    same = recommend(checkpoints["SASRec"], "u1", k=3, exclude=[])
    pd.testing.assert_frame_equal(same, every)


def test_a_file_of_excluded_items_may_be_empty(checkpoints: dict[str, str]) -> None:
    Path("sold-out").write_text("\n")
    command = ["recommend", f"--checkpoint={checkpoints['SASRec']}", "--users=u1"]
    assert CliRunner().invoke(main, [*command, "--exclude=sold-out"]).exit_code == 0
    done = CliRunner().invoke(main, [*command, "--candidates=sold-out"])
    assert "'sold-out' holds no ids" in done.output


def test_ids_in_place_of_a_file_are_refused(checkpoints: dict[str, str]) -> None:
    command = ["recommend", f"--checkpoint={checkpoints['SASRec']}", "--users=u1"]
    done = CliRunner().invoke(main, [*command, "--candidates=i1,i2"])
    assert "the file 'i1,i2' does not exist; expected a file with one id per line" in done.output
