"""The command `recommend`: its options, its outputs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from click.testing import CliRunner

from recbole_llm import Recommender, recommend
from recbole_llm.cli import main


def call(*argv: str) -> str:
    done = CliRunner().invoke(main, ["recommend", *argv])
    assert done.exit_code == 0, done.output
    return done.output


def test_every_format_holds_the_same(checkpoints: dict[str, str], monkeypatch: Any) -> None:
    checkpoint = f"--checkpoint={checkpoints['BPR']}"
    wanted = recommend(checkpoints["BPR"], users="all", k=3)
    base = [checkpoint, "--users=all", "-k", "3", "--eval_memory_mib=1e-9"]  # one user at a time
    for name in ("a.csv", "a.jsonl", "a.json", "a.parquet"):
        assert call(*base, f"--output={name}") == f"40 users, 120 recommendations → {name}\n"
    for frame in (
        pd.read_csv("a.csv"),
        pd.read_json("a.jsonl", lines=True),
        pd.read_json("a.json"),
        pd.read_parquet("a.parquet"),
    ):
        pd.testing.assert_frame_equal(frame, wanted, check_dtype=False, rtol=1e-5)


def test_a_dash_is_the_screen(checkpoints: dict[str, str]) -> None:
    asked = [f"--checkpoint={checkpoints['BPR']}", "--users=u1", "-k", "3", "--format=csv"]
    assert call(*asked, "--output=-") == call(*asked)
    assert not Path("-").exists()
    done = CliRunner().invoke(main, ["recommend", *asked[:-1], "--output=-", "--format=parquet"])
    assert "parquet needs a file" in done.output


def test_an_output_of_an_unknown_format_is_refused(checkpoints: dict[str, str]) -> None:
    command = ["recommend", f"--checkpoint={checkpoints['SASRec']}", "--users=u1", "--output=x.xml"]
    done = CliRunner().invoke(main, command)
    assert done.exit_code == 2 and "--output: 'x.xml' ends in no known format" in done.output
    assert CliRunner().invoke(main, [*command, "--format=json"]).exit_code == 0
    assert len(json.loads(Path("x.xml").read_text())) == 10


def test_options_may_have_hyphens_or_underscores(checkpoints: dict[str, str]) -> None:
    base = [f"--checkpoint={checkpoints['SASRec']}", "--users=u1", "--eval_memory_mib=64"]
    assert call(*base, "--keep_history", "--k=3") == call(*base, "--keep-history", "-k", "3")


def test_options_may_be_singular_or_plural(checkpoints: dict[str, str]) -> None:
    Path("ids").write_text("i1\ni2\ni3\n")
    command = ["recommend", f"--checkpoint={checkpoints['SASRec']}", "-k", "2"]
    for one, other in (
        (["--user=u5"], ["--users=u5"]),
        (["--item=i5"], ["--items=i5"]),
        (["--user=u5", "--candidate=ids"], ["--users=u5", "--candidates=ids"]),
        (["--user=u5", "--excluded=ids"], ["--users=u5", "--exclude=ids"]),
    ):
        found, same = (CliRunner().invoke(main, [*command, *a]).stdout for a in (one, other))
        assert found == same and "rank" in found


def test_new_users_come_from_a_file_of_histories(checkpoints: dict[str, str]) -> None:
    histories = {"anna": ["i1", "i5"], "bob": ["i2"]}
    lines = [json.dumps({"user": name, "items": own}) for name, own in histories.items()]
    Path("new.jsonl").write_text("\n".join(lines))
    call(
        f"--checkpoint={checkpoints['SASRec']}",
        "--histories=new.jsonl",
        "--output=n.csv",
        "-k",
        "2",
    )
    table = pd.read_csv("n.csv")
    assert list(table["user"]) == ["anna", "anna", "bob", "bob"]
    source = Recommender.of(checkpoints["SASRec"])
    pd.testing.assert_frame_equal(recommend(source, histories=histories, k=2), table, rtol=1e-5,
                                  check_dtype=False)  # fmt: skip
    columns = pd.DataFrame([(name, item) for name, own in histories.items() for item in own])
    grouped = columns.groupby(0)[1].agg(list)
    assert recommend(source, histories=grouped, k=2).equals(
        recommend(source, histories=histories, k=2)
    )
    alone = recommend(source, items=["i2"], k=2)
    assert list(alone["item"]) == list(table["item"][2:])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--users=u1"], "name a model: --checkpoint=FILE, or --model=FOLDER"),
        (["--checkpoint=gone.pth"], "error: say for whom"),  # before anything is loaded
        (["--checkpoint=gone.pth", "--users=u1", "--items=i1"], "error: give one of users, items"),
        (["--checkpoint=gone.pth", "--users=u1"], "checkpoint 'gone.pth' does not exist"),
        (["--checkpoint=gone.pth", "--topk=20"], "set the items for each user by -k 20"),
        (["--model={SASRec}", "--users=u1"], "is a file; for a checkpoint write --checkpoint="),
        (["--checkpoint=.", "--users=u1"], "is a folder; for an exported model write --model=."),
        (["--model=exported", "--users=u1", "--topk=5"], "takes no settings: leave out --topk=5"),
        (["--checkpoint={SASRec}", "--users=u99"], "ids are those of user_id in data set 'tiny'"),
    ],
)
def test_unclear_commands_are_refused(
    checkpoints: dict[str, str], arguments: list[str], message: str
) -> None:
    given = [argument.format(**checkpoints) for argument in arguments]
    done = CliRunner().invoke(main, ["recommend", *given])
    assert done.exit_code == 2 and message in done.output


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        (["--items=i1"], "items: BPR learns about each user in training"),
        (["--users=u1", "--query=tea"], "query: BPR reads no text of its users"),
    ],
)
def test_impossible_requests_are_refused_before_the_data_is_read(
    checkpoints: dict[str, str], asked: list[str], said: str
) -> None:
    given = [f"--checkpoint={checkpoints['BPR']}", "--data_path=nowhere", *asked]
    done = CliRunner().invoke(main, ["recommend", *given])
    assert done.exit_code == 2 and said in done.output


@pytest.mark.parametrize("more", [[], ["--output=n.csv"]])
def test_users_for_whom_no_item_is_left_are_counted(
    checkpoints: dict[str, str], more: list[str]
) -> None:
    own, other = recommend(checkpoints["SASRec"], users="u1", k=2)["item"]
    Path("only.txt").write_text(f"{own}\n")
    Path("new.jsonl").write_text(
        json.dumps({"user": "ann", "items": [own]})
        + "\n"
        + json.dumps({"user": "bob", "items": [other]})
    )
    command = [f"--checkpoint={checkpoints['SASRec']}", "--histories=new.jsonl", *more]
    said = "mind: no item is left to recommend for 1 of 2 users; --keep-history "
    assert said in call(*command, "--candidates=only.txt")
    assert "no item is left" not in call(*command, "--candidates=only.txt", "--keep-history")
    assert "no item is left" not in call(f"--checkpoint={checkpoints['BPR']}", "--users=u1,u1")
