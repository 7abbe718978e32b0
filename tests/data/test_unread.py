"""Warnings of columns that were asked for, but that are in no file or have no effect."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from recbole_llm.core.config import Config
from recbole_llm.data.create import create_dataset
from recbole_llm.data.reading.unread import warn_of_missing_columns
from recbole_llm.offline.run import prepare_data
from recbole_llm.testing import write_tiny_dataset

COLUMNS = {
    "inter": ["user_id", "item_id", "rating", "timestamp", "slot", "bid"],
    "item": ["item_id", "genre", "price"],
    "user": ["user_id", "age"],
}


def warnings(folder: Path, caplog: pytest.LogCaptureFixture, model: str, **keys: Any) -> list[str]:
    """What preparing the data warns of, if ratings make labels."""
    file = write_tiny_dataset(folder) / "tiny.inter"
    header, *rows = file.read_text().splitlines()
    lines = (f"{row}\ts{n % 3}\t{n % 7}.5" for n, row in enumerate(rows))
    file.write_text("\n".join([f"{header}\tslot:token\tbid:float", *lines]) + "\n")
    labels: dict[str, Any] = {"threshold": {"rating": 3}, "train_neg_sample_args": None}
    split = {"split": {"LS": "valid_and_test"}, "order": "TO", "mode": "labeled"}
    own = {"data_path": str(folder), "encoder": "hash", "embedding_cache_dir": str(folder / "c")}
    made = Config(model, "tiny", config_dict={**own, **labels, "eval_args": split, **keys})
    prepare_data(made)
    found = (record.getMessage() for record in caplog.records if record.levelname == "WARNING")
    return [message for message in found if message.startswith("load_col")]


@pytest.mark.parametrize(
    ("model", "unread", "numbers"),
    [
        ("DIN", "slot, bid, age", "price"),
        ("DIEN", "slot, bid", "price"),
        ("LLMCF", "slot, bid", "price"),
        ("DCN", None, "bid, price"),
    ],
)
def test_columns_without_effect_are_named(
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    model: str,
    unread: str | None,
    numbers: str,
) -> None:
    keys = {"thoughts": "item_text"} if model == "LLMCF" else {}
    found = warnings(tmp_path, caplog, model, load_col=COLUMNS, **keys)
    start = f"load_col: {model} does not read"
    advised = f'set --numerical_features="{numbers.split(", ")}" ('
    assert [m for m in found if advised in m] == [found[-1]]
    assert found[-1].startswith(f"{start} {numbers}; to read numbers")
    due = f"{start} {unread}; context-aware models (DeepFM, DCN, …) do"
    assert found[:-1] == ([due] if unread else [])


@pytest.mark.parametrize(
    ("model", "keys"),
    [
        ("DIN", {}),  # the columns of the default
        ("DCN", {"load_col": None}),  # asks for no column by name
        ("DIN", {"load_col": {"inter": COLUMNS["inter"][:4], "item": ["item_id", "genre"]}}),
        ("DCN", {"load_col": COLUMNS, "numerical_features": ["bid", "price"]}),
        ("DCN", {"load_col": COLUMNS, "unused_col": {"inter": ["bid"], "item": ["price"]}}),
        (
            "DIN",
            {
                "load_col": {"inter": COLUMNS["inter"]},
                "val_interval": {"slot": ["s0", "s1"], "bid": "[0,inf)"},
            },
        ),
        ("BAHE", {"load_col": {"inter": COLUMNS["inter"][:5]}, "behavior_field": "slot"}),
        ("SASRec", {"load_col": COLUMNS, "threshold": None, "eval_args": {"mode": "full"}}),
    ],
)
def test_columns_that_are_read_or_were_not_asked_for_are_not(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, model: str, keys: dict[str, Any]
) -> None:
    assert warnings(tmp_path, caplog, model, **keys) == []


@pytest.mark.parametrize(
    ("file", "column", "says"),
    [
        ("inter", "slott", "'{}/tiny/tiny.inter' has no column 'slott'; did you mean 'slot'? its"),
        ("user", "agee", "'{}/tiny/tiny.user' has no column 'agee'; did you mean 'age'? its"),
        ("inter", "label", None),  # made by the threshold
    ],
)
def test_columns_that_no_file_has_are_named(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, file: str, column: str, says: str | None
) -> None:
    columns = {"inter": COLUMNS["inter"][:5], "user": ["user_id"]}
    columns[file] = [*columns[file], column]
    found = warnings(tmp_path, caplog, "DCN", load_col=columns)
    assert len(found) == (says is not None)
    assert not says or found[0].startswith(f"load_col: {says.format(tmp_path)} columns are")


def test_a_file_of_which_columns_were_asked_for_and_that_is_not_there(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (write_tiny_dataset(tmp_path) / "tiny.user").rename(tmp_path / "elsewhere")
    made = Config("BPR", "tiny", config_dict={"data_path": str(tmp_path), "load_col": COLUMNS})
    warn_of_missing_columns(made, create_dataset(made))
    assert "tiny.user' has no column 'age'; there is no such file" in caplog.text
