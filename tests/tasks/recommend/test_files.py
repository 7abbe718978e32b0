"""Ids and histories in files."""

from __future__ import annotations

import io
import json
import os
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from click.testing import CliRunner

from recbole_llm import recommend
from recbole_llm.cli import main
from recbole_llm.tasks.recommend.input import read_histories, read_ids


def test_ids_and_histories_may_come_through_a_pipe() -> None:
    for read, text, found in (
        (read_ids, "i1\n", ["i1"]),
        (read_histories, '{"user": "a", "items": ["i1"]}', {"a": ["i1"]}),
    ):
        end, other = os.pipe()
        os.write(other, text.encode())
        os.close(other)
        assert read(f"/dev/fd/{end}") == found
        os.close(end)


def test_a_hyphen_is_the_standard_input(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO("é1\r\ni2\n".encode())))
    assert read_ids("-") == ["é1", "i2"]
    monkeypatch.setattr("sys.stdin", None)
    with pytest.raises(ValueError, match="the standard input is closed"):
        read_ids("-")


def test_ids_may_have_characters_that_end_lines_elsewhere(tmp_path: Path) -> None:
    names = ["a\u2028b", "c\x85", "d\x1ce", "f g", "h\ri"]
    file = tmp_path / "ids.txt"
    file.write_bytes(("\r\n".join(names) + "\n").encode())
    assert read_ids(str(file)) == names
    file.write_text(json.dumps({"user": "u", "items": names}, ensure_ascii=False), encoding="utf-8")
    assert read_histories(str(file)) == {"u": names}
    file.write_text("[" * 100_000, encoding="utf-8")
    with pytest.raises(ValueError, match="line 1 is not of the form"):
        read_histories(str(file))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            '{"user": "a", "items": ["i1"]}\n{"user": "a", "items": ["i2"]}',
            "line 2 has the user 'a'",
        ),
        ("[1]", "line 1 is not of the form"),
        ('{"user": "a"}', "line 1 is not of the form"),
        ('{"user": null, "items": ["i1"]}', "line 1 is not of the form"),
        ('{"users": "a", "items": ["i1"]}', "line 1 is not of the form"),
        ('{"user": "a", "items": "12"}', "line 1 is not of the form"),
        ('{"user": "a", "items": ["i1", true]}', "line 1 is not of the form"),
        ('{"user": "\\ud83d", "items": ["i1"]}', "line 1 is not of the form"),  # half a character
        ('{"user": "a", "items": []}', "holds no histories"),
        ("", "holds no histories"),
    ],
)
def test_malformed_files_of_histories_are_refused(
    checkpoints: dict[str, str], text: str, message: str
) -> None:
    Path("bad.jsonl").write_text(text)
    done = CliRunner().invoke(
        main, ["recommend", f"--checkpoint={checkpoints['SASRec']}", "--histories=bad.jsonl"]
    )
    assert done.exit_code == 2 and message in done.output


def test_an_empty_list_of_items_holds_no_id(checkpoints: dict[str, str]) -> None:
    command = ["recommend", f"--checkpoint={checkpoints['SASRec']}", "--items="]
    assert "items: no id given" in CliRunner().invoke(main, command).output


@pytest.mark.parametrize(
    ("histories", "said"),
    [
        ({}, "histories: no user given"),
        ([["i1"]], r"histories: expected \{name: items\}, got \[\['i1'\]\]"),
        ({1: ["i1"], "1": ["i2"]}, "two names are the same as texts, such as 1 and '1'"),
        ({"ann": ["i1"], "bob": []}, "^histories: of 'bob': items: no id given"),
        ({"ann": ["i1"], "bob": ["i1", "zz"]}, "^histories: of 'bob': items: 'zz' is unknown"),
    ],
)
def test_malformed_histories_are_refused(
    checkpoints: dict[str, str], histories: Any, said: str
) -> None:
    with pytest.raises(ValueError, match=said):
        recommend(checkpoints["SASRec"], histories=histories)


def test_unknown_items_of_histories_are_left_out_and_named(checkpoints: dict[str, str]) -> None:
    histories = {"bob": ["x"], "eve": [], "anna": ["i1", "i99", "i5"], "carl": ["i2"]}
    lines = [json.dumps({"user": name, "items": own}) for name, own in histories.items()]
    Path("new.jsonl").write_text("\n".join(lines))
    command = ["recommend", f"--checkpoint={checkpoints['SASRec']}", "--output=n.csv", "-k", "2"]
    done = CliRunner().invoke(main, [*command, "--histories=new.jsonl"])
    assert done.exit_code == 0, done.output
    assert "mind: unknown items of histories, left out: 2 (x, i99)" in done.output
    assert "mind: users without a known item, left out: 2 (bob, eve)" in done.output
    table = pd.read_csv("n.csv")
    assert table["user"].unique().tolist() == ["anna", "carl"]
    known = recommend(checkpoints["SASRec"], histories={"anna": ["i1", "i5"]}, k=2)
    assert table["item"][:2].tolist() == known["item"].tolist()
    Path("none.jsonl").write_text('{"user": "bob", "items": ["i99"]}')
    bad = CliRunner().invoke(main, [*command, "--histories=none.jsonl"])
    assert bad.exit_code == 2 and "'i99' is unknown" in bad.output
