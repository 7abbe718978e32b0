from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from recbole_llm.data.reading.files import Table


def write(tmp_path: Path, content: str) -> Path:
    file = tmp_path / "x.item"
    file.write_bytes(content.encode())
    return file


def test_values_are_read_as_written(tmp_path: Path) -> None:
    text = '\ufeffid:token\tname:token_seq\tp:float\r\n1\t12" Live\t2.50\r\n\r\n2\t\t\r\n'
    file = Table.read(write(tmp_path, text))
    assert file.types == {"id": "token", "name": "token_seq", "p": "float"}
    assert file.rows() == [
        {"id": "1", "name": '12" Live', "p": "2.50"},
        {"id": "2", "name": "", "p": ""},
    ]
    assert file.text_fields(without=("id",)) == ["name"]


def test_quotes_are_read_as_recbole_reads_them(tmp_path: Path) -> None:
    """A table as pandas writes it, with quotes, a separator and a line end inside values."""
    titles = ['He said "hi"', "tab\there", "two\nlines", '"Weird Al" Live', "plain"]
    table = pd.DataFrame({"id:token": list("abcde"), "t:token": titles})
    table.to_csv(tmp_path / "x.item", sep="\t", index=False)
    file = Table.read(tmp_path / "x.item")
    read = pd.read_csv(tmp_path / "x.item", sep="\t", engine="python")  # as RecBole does
    assert [row["t"] for row in file.rows()] == list(read["t:token"]) == titles


def test_line_ends_within_a_title_are_of_the_title(tmp_path: Path) -> None:
    file = Table.read(write(tmp_path, "id:token\tt:token_seq\n1\ta\u2028b\x85c\rd\n"))
    assert file.rows() == [{"id": "1", "t": "a\u2028b\x85c\rd"}]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "the header must be name:type fields, got ''"),
        ("id\tname:token\n", "the header must be name:type"),
        ("id:token\tname:token\n1\ta\n2\tb\tc\n", "line 3: 3 values, the header has 2 fields"),
    ],
)
def test_a_file_of_another_form_is_refused(tmp_path: Path, content: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Table.read(write(tmp_path, content))


def test_rows_by_id(tmp_path: Path) -> None:
    file = Table.read(write(tmp_path, "id:token\tt:token\n1\ta\n2\tb\n1\ta\n"))
    assert file.rows_by_id("id") == {"1": {"id": "1", "t": "a"}, "2": {"id": "2", "t": "b"}}
    with pytest.raises(ValueError, match="has no field 'iid'; it has id:token, t:token"):
        file.rows_by_id("iid")


def test_rows_that_contradict_each_other_are_refused(tmp_path: Path) -> None:
    file = Table.read(write(tmp_path, "id:token\tt:token\n1\ta\n2\tb\n1\tc\n"))
    with pytest.raises(ValueError, match="several rows of one id differ: '1'; keep one row f"):
        file.rows_by_id("id")
