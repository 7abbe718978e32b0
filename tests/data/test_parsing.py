"""Malformed files end in one line that names the file, the line and the way out; ids survive."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from recbole_llm.core.compat_pandas import is_known
from recbole_llm.core.config import Config
from recbole_llm.data.create import create_dataset
from recbole_llm.data.datasets.vocabulary import VocabularyDataset
from recbole_llm.data.reading.files import Table, read_types
from recbole_llm.data.reading.parsing import at_lines, parse_numbers
from recbole_llm.testing import write_tiny_dataset

KINDS = ["SASRec", "BPR", "DeepFM", "CKE", "GRU4RecKG", "DIEN"]
CTR = {"threshold": {"rating": 3}}


def config(folder: Path, model: str = "SASRec", **changes: Any) -> Config:
    settings: dict[str, Any] = {"data_path": str(folder)}
    if model in ("DeepFM", "DIEN"):
        settings |= CTR
    return Config(model, "tiny", config_dict={**settings, **changes})


def with_line(folder: Path, number: int, line: str, suffix: str = "inter") -> Path:
    """The tiny data set with one line of a file replaced."""
    file = write_tiny_dataset(folder) / f"tiny.{suffix}"
    lines = file.read_text(encoding="utf-8").splitlines()
    lines[number - 1] = line
    file.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return file


def refusal(settings: Config) -> str:
    with pytest.raises(ValueError) as found:
        create_dataset(settings)
    assert "\n" not in str(found.value)
    return str(found.value)


LINES = {
    "u1\ti3\t4\t": "line 5: timestamp:float (TIME_FIELD) is missing, so the order",
    "u1\ti3\t4\tnan": "line 5: timestamp:float (TIME_FIELD) is missing",
    "u1\ti3\t4\t-inf": "line 5: -inf in timestamp:float is infinite",
    "u1\ti3\t4\t1e300": "line 5: 1e300 in timestamp:float is infinite, or too large for models",
    "u1\ti3\t4\t2021-03-04": "line 5: '2021-03-04' in timestamp:float is not a number",
    "u1\ti3\tfour\t1000": "line 5: 'four' in rating:float is not a number",
    "u1\t\t4\t1000": "line 5: item_id is empty",
    "[PAD]\ti3\t4\t1000": "line 5: user_id is [PAD], RecBole's padding",
    "u1\ti3\t4": "line 5: 3 values, the header has 4 fields",
    "u1\ti3\t4\t1000\t": "line 5: 5 values, the header has 4 fields",
    '"u1\ti3\t4\t1000': "line 5 opens a quote at 'u1\ti3\t4\t1000' that is not closed",
}


@pytest.mark.parametrize("line", LINES)
def test_a_bad_line_is_named(tmp_path: Path, line: str) -> None:
    file = with_line(tmp_path, 5, line)
    assert refusal(config(tmp_path)).startswith(f"'{file}' {LINES[line]}")


@pytest.mark.parametrize("model", KINDS)
def test_every_kind_of_model_checks(tmp_path: Path, model: str) -> None:
    with_line(tmp_path, 7, "u1\ti3\t4\tNaN")
    assert "tiny.inter' line 7: timestamp:float (TIME_FIELD) is missing" in refusal(
        config(tmp_path, model)
    )


HEADERS = {
    "user_id\titem_id\trating\ttimestamp": "the header must be name:type fields, got 'user_id\t",
    "user_id:token\titem_id:token\trating:int\ttimestamp:float": "type of 'rating:int' is unknown",
    "user_id:token\titem_id:token\titem_id:token\ttimestamp:float": "column 'item_id' more than",
    "user_id:token\titem_id:token\ttimestamp:float\t": "line 1 ends with a separator",
    "user_id:token,item_id:token,rating:float,timestamp:float": "separated by commas, not by tabs",
    "user_id,item_id,rating,timestamp": "separated by commas, not by tabs",
    "user_id:token  item_id:token": "put one tab between columns, in all lines",
}


@pytest.mark.parametrize("header", HEADERS)
def test_a_bad_header_is_named(tmp_path: Path, header: str) -> None:
    with_line(tmp_path, 1, header)
    assert HEADERS[header] in refusal(config(tmp_path, "BPR"))


@pytest.mark.parametrize(
    ("key", "column", "kind"),
    [
        ("TIME_FIELD", "item_id", "token, not float"),
        ("USER_ID_FIELD", "rating", "float, not token"),
    ],
)
@pytest.mark.parametrize("model", ["SASRec", "BPR"])
def test_columns_of_the_wrong_type(
    tmp_path: Path, model: str, key: str, column: str, kind: str
) -> None:
    write_tiny_dataset(tmp_path)
    message = refusal(config(tmp_path, model, **{key: column}))
    assert message.startswith(f"{key}: '{column}' of '") and kind in message


def test_files_that_are_no_text(tmp_path: Path) -> None:
    file = write_tiny_dataset(tmp_path) / "tiny.inter"
    text = file.read_text(encoding="utf-8").replace("u3\t", "u3é\t")
    line = text.partition("é")[0].count("\n") + 1
    for raw, message in (
        (gzip.compress(text.encode()), "is compressed (gzip); unpack it"),
        (text.encode("utf-16"), "is not utf-8 text (UTF-16, or binary); save it as UTF-8"),
        (text.encode("utf-16-le"), "is not utf-8 text (UTF-16, or binary); save it as UTF-8"),
        (text.encode("latin-1"), f"line {line} is not utf-8; save the file as UTF-8, or name"),
    ):
        file.write_bytes(raw)
        assert message in refusal(config(tmp_path))
    assert "encoding: 'latin9x' is unknown" in refusal(config(tmp_path, encoding="latin9x"))
    for encoding in ("latin-1", "utf-8-sig", "utf-8", "utf-16"):
        file.write_bytes(text.encode(encoding))
        dataset = create_dataset(config(tmp_path, encoding=encoding))
        assert "u3é" in dataset.field2token_id["user_id"]


def test_a_byte_order_mark_and_other_line_ends_change_nothing(tmp_path: Path) -> None:
    file = write_tiny_dataset(tmp_path) / "tiny.inter"
    expected = create_dataset(config(tmp_path)).inter_feat
    text = file.read_text(encoding="utf-8")
    for other in ("\ufeff" + text, text.replace("\n", "\r\n"), text.replace("\n", "\r"),
                  text.replace("\n", "\n\n"), text[:-1]):  # fmt: skip
        file.write_bytes(other.encode())
        pd.testing.assert_frame_equal(create_dataset(config(tmp_path)).inter_feat, expected)


@pytest.mark.parametrize("name", ["NA", "nan", "None", "null", "N/A", "-1.#IND"])
def test_ids_that_pandas_takes_for_missing(tmp_path: Path, name: str) -> None:
    """Rows of such ids stay in all files; RecBole's own data set drops them."""
    folder = write_tiny_dataset(tmp_path)
    sizes = create_dataset(config(tmp_path)).inter_num
    for suffix in ("inter", "item", "user"):
        file = folder / f"tiny.{suffix}"
        text = file.read_text(encoding="utf-8")
        text = text.replace("\ti7\t", f"\t{name}\t").replace("\ni7\t", f"\n{name}\t")
        file.write_text(text.replace("\nu3\t", f"\n{name}\t"), encoding="utf-8")
    columns = {"inter": ["user_id", "item_id", "timestamp"], "item": ["item_id", "title", "price"],
               "user": ["user_id", "age"]}  # fmt: skip
    dataset = create_dataset(config(tmp_path, load_col=columns))
    assert dataset.inter_num == sizes
    assert (dataset.user_num, dataset.item_num) == (41, 61)
    dataset.build()
    item = dataset.token2id("item_id", name)
    title = dataset.id2token("title", dataset.item_feat["title"][item].numpy())
    assert list(title) == ["The", "horror", "storm", "7"]
    age = dataset.user_feat["age"][dataset.token2id("user_id", name)]
    assert dataset.id2token("age", age) == "23"


def test_features_are_read_as_recbole_reads_them(tmp_path: Path) -> None:
    """A missing value becomes padding or the mean, and so do a feature's NA and the like."""
    folder = write_tiny_dataset(tmp_path)
    file = folder / "tiny.item"
    text = file.read_text(encoding="utf-8")
    text = text.replace("i0\tThe action river 0\taction\t", "i0\t\tNA\t")
    file.write_text(text.replace("i1\tThe drama castle 1\tdrama\t1991\t1.5", 'i1\tNA\t"a"\t1\tNA'))
    columns = {"inter": ["user_id", "item_id", "timestamp"],
               "item": ["item_id", "title", "genre", "price"]}  # fmt: skip
    dataset = create_dataset(config(tmp_path, load_col=columns))
    frame = dataset.item_feat.set_index("item_id")
    first, second = (frame.loc[dataset.token2id("item_id", i)] for i in ("i0", "i1"))
    assert len(first["title"]) == len(second["title"]) == 0
    assert first["genre"] == 0
    assert dataset.id2token("genre", int(second["genre"])) == "a"
    prices = [i % 7 + 0.5 for i in range(60) if i != 1]
    assert second["price"] == pytest.approx(np.mean(prices))


def test_rows_of_one_item_that_differ_are_refused(tmp_path: Path) -> None:
    """An identical second row is accepted."""
    columns = {"inter": ["user_id", "item_id", "timestamp"], "item": ["item_id", "genre"]}
    row = "i2\tThe comedy robot 2\tcomedy\t1992\t2.5"
    with_line(tmp_path, 2, row, "item")
    assert create_dataset(config(tmp_path, load_col=columns)).item_feat is not None
    file = with_line(tmp_path, 2, row.replace("comedy\t", "drama\t"), "item")
    said = f"'{file}': several rows of one item_id differ: 'i2'; keep one row for each"
    assert refusal(config(tmp_path, load_col=columns)) == said


def test_numbers_of_sequences(tmp_path: Path) -> None:
    file = tmp_path / "x.item"
    file.write_text("item_id:token\tsize:float_seq\na\t1 2\nb\t\nc\t3 x\n")
    table = Table.read(file)
    assert table.types == read_types(file) == {"item_id": "token", "size": "float_seq"}
    assert table.lines.tolist() == [2, 3, 4]
    flat = np.array(["1", "2", "3", "x"], dtype=object)
    with pytest.raises(ValueError, match="line 4: 'x' in size:float is not a number"):
        parse_numbers(file, "size", flat, np.array([2, 2, 4, 4]))


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16", "utf_16_be", "utf-32"])
@pytest.mark.parametrize("end", ["\n", "\r", "\r\n"])
def test_types_are_read_off_the_start_of_a_long_file(
    tmp_path: Path, encoding: str, end: str
) -> None:
    """The first 64 KiB of the file may end inside a character."""
    for shift in range(4):
        rows = ["item_id:token\tname:token", "x" * shift + "\ty", *["🫖\t茶"] * 12_000]
        file = tmp_path / f"{shift}.item"
        file.write_bytes(end.join(rows).encode(encoding))
        types = read_types(file, encoding=encoding)
        assert types == {"item_id": "token", "name": "token"}


def test_a_quoted_value_may_hold_line_ends(tmp_path: Path) -> None:
    file = tmp_path / "x.item"
    rows = ['a\t"two\nlines"', 'b\t"say ""hi"" "', 'c\t5" pipe']
    file.write_text("\n".join(["item_id:token\ttitle:token_seq", *rows]) + "\n")
    table = Table.read(file)
    assert table.columns["title"].tolist() == ["two\nlines", 'say "hi" ', '5" pipe']
    assert table.lines.tolist() == [2, 4, 5]


def test_a_carriage_return_is_part_of_a_title_also_beside_quotes(tmp_path: Path) -> None:
    file = tmp_path / "x.item"
    rows = ["a\tone\rtwo", 'b\t"3""\r"', "c\t"]
    file.write_text("\n".join(["item_id:token\ttitle:token_seq", *rows]), newline="")
    assert Table.read(file).columns["title"].tolist() == ["one\rtwo", '3"\r', ""]


def test_separators_of_several_characters(tmp_path: Path) -> None:
    """With such separators, pandas does not interpret quotes."""
    file = tmp_path / "x.inter"
    for separator in ("::", "||"):
        file.write_text(f'user_id:token{separator}item_id:token\n"u1"{separator}i1\n')
        assert Table.read(file, separator).columns["user_id"].tolist() == ['"u1"']


def test_lines_are_listed_briefly() -> None:
    assert at_lines([7]) == "line 7"
    assert at_lines([2, 5]) == "lines 2, 5"
    assert at_lines(range(2, 17)) == "lines 2, 3, 4 and 12 more"


@pytest.mark.parametrize("model", ["SASRec", "BPR", "DIN"])
def test_a_filter_reads_its_column_and_leaves_it_out_again(tmp_path: Path, model: str) -> None:
    file = write_tiny_dataset(tmp_path) / "tiny.inter"
    header, *lines = file.read_text(encoding="utf-8").splitlines()
    rows = [f"{line}\t{i % 3 > 0:d}" for i, line in enumerate(lines)]
    file.write_text("\n".join([f"{header}\tclicked:float", *rows]) + "\n", encoding="utf-8")
    dataset = create_dataset(config(tmp_path, model, val_interval={"clicked": "[1,inf)"}))
    assert len(dataset) == sum(row.endswith("1") for row in rows)
    assert "clicked" not in dataset.inter_feat and "clicked" not in dataset.field2type


@pytest.mark.parametrize("years", [["1990", "1993"], [1990, 1993], (1990, 1993)])
def test_a_filter_lists_the_tokens_to_keep(tmp_path: Path, years: list[Any]) -> None:
    """Two numbers are tokens, not an interval, if the column holds tokens."""
    write_tiny_dataset(tmp_path)
    keys = {"load_col": None, "val_interval": {"release_year": years, "gender": ["M"]}}
    dataset = create_dataset(config(tmp_path, "BPR", **keys))
    items, users = (dataset.field2id_token[f][1:].tolist() for f in ("item_id", "user_id"))
    assert 0 < len(items) <= 6 and {int(item[1:]) % 20 for item in items} <= {0, 3}
    assert 0 < len(users) <= 20 and all(int(user[1:]) % 2 for user in users)


@pytest.mark.parametrize(
    ("field", "values", "message"),
    [
        ("gender", "[0,1]", "'gender' is a token column, which has no interval; list the tokens"),
        ("price", ["a"], "'price' is a float column, which takes no list of tokens; give an in"),
        ("title", ["The"], "'title' is a column of sequences (token_seq), which cannot filter"),
    ],
)
def test_a_filter_in_the_form_of_another_type(
    tmp_path: Path, field: str, values: Any, message: str
) -> None:
    write_tiny_dataset(tmp_path)
    keys = {"load_col": None, "val_interval": {field: values}}
    assert refusal(config(tmp_path, "BPR", **keys)).startswith(f"val_interval: {message}")


def test_a_threshold_reads_its_column_and_leaves_it_out_again(tmp_path: Path) -> None:
    write_tiny_dataset(tmp_path)
    columns = {"inter": ["user_id", "item_id", "timestamp"]}
    dataset = create_dataset(config(tmp_path, "DeepFM", load_col=columns))
    assert set(dataset.inter_feat) == {"user_id", "item_id", "timestamp", "label"}
    assert set(dataset.inter_feat["label"]) == {0, 1}
    for field in ("gender", "item_id"):
        said = refusal(config(tmp_path, "DeepFM", threshold={field: 1}))
        assert said.startswith(f"threshold: '{field}' is no float column of '")
        assert said.endswith("and labels are made from float columns; these are rating, timestamp")


@pytest.mark.parametrize(
    ("model", "keys", "message"),
    [
        ("SASRecF", {"selected_features": ["price"]}, "selected_features: 'price' is of type float"
         ", embedded only as a numerical feature; set --numerical_features=\"['price']\""),
        ("SASRecF", {"selected_features": ["size"], "numerical_features": ["size"]},
         "selected_features: 'size' is of type float_seq, which SASRecF cannot read"),
        ("S3Rec", {"item_attribute": "price", "train_stage": "pretrain"},
         "item_attribute: 'price' is of type float, which S3Rec cannot read"),
        ("FwFM", {"numerical_features": ["size"], "threshold": {"rating": 3}},
         "numerical_features: 'size' is of type float_seq, which FwFM cannot read; leave it out"),
        ("DeepFM", {"numerical_features": ["gender"]}, "numerical_features: 'gender' is of type"),
        ("DeepFM", {"numerical_features": ["pric"]}, "numerical_features: no field 'pric' is loa"),
        ("DeepFM", {"discretization": {"gender": {"method": "LD"}}},
         "discretization: 'gender' is of type token, not float"),
        ("DeepFM", {"discretization": {"price": {"method": "LD"}}},
         "discretization: 'price' is not among the numerical_features; add it"),
        ("DeepFM", {"normalize_field": ["pric"]}, "normalize_field: no field 'pric' is loaded"),
        ("BPR", {"alias_of_item_id": ["prev"]}, "alias_of_item_id: no field 'prev' is loaded"),
        ("BPR", {"alias_of_user_id": ["price"]}, "alias_of_user_id: 'price' is of type float, not"),
    ],
)  # fmt: skip
def test_features_of_an_unsuitable_type(
    tmp_path: Path, model: str, keys: dict[str, Any], message: str
) -> None:
    file = write_tiny_dataset(tmp_path) / "tiny.item"
    header, *rows = file.read_text(encoding="utf-8").splitlines()
    lines = [f"{header}\tsize:float_seq", *(f"{row}\t1 2" for row in rows)]
    file.write_text("\n".join(lines) + "\n", encoding="utf-8")
    assert refusal(config(tmp_path, model, load_col=None, **keys)).startswith(message)


@pytest.mark.parametrize("model", ["GRU4RecF", "FDSA"])
def test_numbers_that_models_of_features_embed(tmp_path: Path, model: str) -> None:
    write_tiny_dataset(tmp_path)
    named = {"selected_features": ["price"], "numerical_features": ["price"]}
    assert "price" in create_dataset(config(tmp_path, model, **named)).item_feat


def test_a_filter_of_a_field_that_is_not_there(tmp_path: Path) -> None:
    write_tiny_dataset(tmp_path)
    said = refusal(config(tmp_path, val_interval={"ratings": "[1,inf)"}))
    assert said.startswith("val_interval: no field 'ratings' is loaded; did you mean 'rating'?")


def test_a_knowledge_graph_that_is_not_there(tmp_path: Path) -> None:
    folder = write_tiny_dataset(tmp_path)
    (folder / "tiny.link").unlink()
    said = f"'{folder / 'tiny.link'}' does not exist; CKE reads a knowledge graph: triples"
    assert said in refusal(config(tmp_path, "CKE"))


def test_columns_of_a_knowledge_graph_that_are_not_there(tmp_path: Path) -> None:
    folder = write_tiny_dataset(tmp_path)
    said = f"ENTITY_ID_FIELD: '{folder / 'tiny.link'}' has no column 'entity'; did you mean 'ent"
    assert said in refusal(config(tmp_path, "CKE", ENTITY_ID_FIELD="entity"))


def test_vectors_of_ids_that_are_not_numbered(tmp_path: Path) -> None:
    folder = write_tiny_dataset(tmp_path)
    (folder / "tiny.emb").write_text("iid:token\temb:float_seq\ni1\t1.0 2.0\n")
    named = {"additional_feat_suffix": ["emb"], "preload_weight": {"iid": "emb"}}
    columns = {"inter": ["user_id", "item_id", "timestamp"], "emb": ["iid", "emb"]}
    said = "preload_weight: 'iid' does not name users or items; add it to alias_of_user_id or"
    assert said in refusal(config(tmp_path, load_col=columns, **named))


def test_columns_of_a_knowledge_graph_that_are_left_out(tmp_path: Path) -> None:
    write_tiny_dataset(tmp_path)
    inter, graph = ["user_id", "item_id"], ["head_id", "relation_id", "tail_id"]
    columns = {"inter": inter, "link": ["item_id", "entity_id"], "kg": graph[:2]}
    said = "load_col: leaves out the column 'tail_id' (TAIL_ENTITY_ID_FIELD) of the .kg file"
    assert said in refusal(config(tmp_path, "CKE", load_col=columns))
    said = "load_col: leaves out the column 'item_id' (ITEM_ID_FIELD) of the .link file"
    columns = {"inter": inter, "kg": graph}
    assert said in refusal(config(tmp_path, "CKE", load_col=columns))


def test_a_column_of_two_files_is_refused() -> None:
    folder = write_tiny_dataset("dataset")
    file = folder / "tiny.item"
    file.write_text(file.read_text().replace("price:", "rating:"))
    both = {"inter": ["user_id", "item_id", "rating"], "item": ["item_id", "rating"]}
    keys = {"data_path": "dataset", "load_col": both}
    with pytest.raises(ValueError, match="'rating' is a column of the .inter and of the .item fil"):
        create_dataset(Config("BPR", "tiny", config_dict=keys))
    both["inter"].remove("rating")
    create_dataset(Config("BPR", "tiny", config_dict=keys))


def test_ids_are_objects_until_they_are_numbered(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """RecBole reads ids one by one, which is slow with the strings of pandas 3."""
    seen, number = [], VocabularyDataset._remap_ID_all

    def noted(self: Any) -> None:
        seen.extend(self.inter_feat[field].dtype for field in ("user_id", "item_id"))
        number(self)

    monkeypatch.setattr(VocabularyDataset, "_remap_ID_all", noted)
    write_tiny_dataset(tmp_path)
    create_dataset(config(tmp_path))
    assert seen == [object, object]


@given(values=st.lists(st.none() | st.text(max_size=2)), known=st.lists(st.text(max_size=2)))
def test_known_values_are_told_whatever_holds_them(values: list[Any], known: list[str]) -> None:
    expected = [value in known for value in values]
    for column in (pd.Series(values, dtype=object), pd.Series(values)):
        assert is_known(column, known).tolist() == expected
        assert is_known(column, set(known)).tolist() == expected
