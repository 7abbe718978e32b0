"""Checks of labels and numbers: labels are 0 or 1, loaded, not missing, and not read on disk."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from recbole_llm.core.config import Config
from recbole_llm.data.create import create_dataset
from recbole_llm.testing import write_tiny_dataset


def labeled(folder: Path, labels: list[str], **keys: Any) -> Any:
    """Load the tiny data set, with its rows labeled in turn."""
    file = write_tiny_dataset(folder) / "tiny.inter"
    header, *rows = file.read_text(encoding="utf-8").splitlines()
    lines = [f"{row}\t{labels[i % len(labels)]}" for i, row in enumerate(rows)]
    file.write_text("\n".join([f"{header}\tlabel:float", *lines]) + "\n", encoding="utf-8")
    columns = {"inter": ["user_id", "item_id", "rating", "timestamp", "label"]}
    own = {"data_path": str(folder), "load_col": columns, **keys}
    return create_dataset(Config("FM", "tiny", config_dict=own))


def test_missing_labels_are_refused_and_left_out_as_it_says(tmp_path: Path) -> None:
    """RecBole fills missing labels with the mean of all rows, held-out rows included."""
    with pytest.raises(ValueError, match="'label': .* have no value to make a label") as caught:
        labeled(tmp_path, ["1", "", "0"])
    assert """--val_interval="{'label': '(-inf,inf)'}\"""" in str(caught.value)
    chosen = labeled(tmp_path, ["1", "", "0"], val_interval={"label": "(-inf,inf)"})
    assert set(chosen.inter_feat["label"]) == {0, 1}


def test_a_threshold_of_missing_ratings_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="'label': .* have no value to make a label from"):
        labeled(tmp_path, ["5", "", "1"], threshold={"label": 3})


def test_labels_are_0_or_1(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="'label': has the value -1, but labels are 0 or 1"):
        labeled(tmp_path, ["1", "-1"])
    with pytest.raises(ValueError, match=r"--threshold=\"{'rating': 5}\""):
        labeled(tmp_path, ["1"], LABEL_FIELD="rating")


def test_the_threshold_that_is_advised_is_the_largest_label(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"--threshold=\"{'label': 2.5}\""):
        labeled(tmp_path, ["0.5", "2.5", "0"])


@pytest.mark.parametrize("negatives", [{"distribution": "uniform", "sample_num": 1}, None])
def test_training_that_takes_all_rows_for_chosen_warns_of_label_0(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, negatives: dict[str, Any] | None
) -> None:
    """Evaluation reads the labels; training reads them only where it draws no negatives."""
    dataset = labeled(tmp_path, ["1", "0", "1"], train_neg_sample_args=negatives)
    zeros = int((dataset.inter_feat["label"] == 0).sum())
    warned = (
        f"train_neg_sample_args: training takes all rows for positives, though {zeros} of "
        f"{len(dataset.inter_feat)} interactions have label 0; set --train_neg_sample_args=None"
    )
    assert zeros and (warned in caplog.text) == (negatives is not None)


def test_training_that_draws_negatives_does_not_warn_without_label_0(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    labeled(tmp_path, ["1"], train_neg_sample_args={"distribution": "uniform", "sample_num": 1})
    assert "training takes all rows" not in caplog.text


@pytest.mark.parametrize(
    ("columns", "advice"),
    [
        (("stars:float", "timestamp:float"), "--threshold=\"{'stars': …}\""),
        (("timestamp:float",), ': draw negatives, with --eval_args="{mode: uni100}" --train_neg'),
    ],
)
def test_a_file_without_labels_is_told_of_the_columns_that_it_has(
    tmp_path: Path, columns: tuple[str, ...], advice: str
) -> None:
    folder = tmp_path / "shop"
    folder.mkdir()
    header = "\t".join(("user_id:token", "item_id:token", *columns))
    (folder / "shop.inter").write_text(f"{header}\nu\ti" + "\t1" * len(columns) + "\n")
    keys = {"data_path": str(tmp_path), "load_col": None}
    with pytest.raises(ValueError, match="no column 'label'") as caught:
        create_dataset(Config("FM", "shop", config_dict=keys))
    assert advice in str(caught.value)
    assert "'timestamp'" not in str(caught.value) and "rating" not in str(caught.value)


def test_a_model_that_learns_none_does_not_mind(tmp_path: Path) -> None:
    file = write_tiny_dataset(tmp_path) / "tiny.inter"
    header, *rows = file.read_text(encoding="utf-8").splitlines()
    lines = [f"{header}\tlabel:float", *(f"{row}\t-1" for row in rows)]
    file.write_text("\n".join(lines) + "\n", encoding="utf-8")
    columns = {"inter": ["user_id", "item_id", "timestamp", "label"]}
    keys = {"data_path": str(tmp_path), "load_col": columns}
    assert set(create_dataset(Config("BPR", "tiny", config_dict=keys)).inter_feat["label"]) == {-1}


def test_a_number_that_no_row_has_is_refused(tmp_path: Path) -> None:
    """The column's mean would be NaN, and a NaN loss would be the only symptom."""
    file = write_tiny_dataset(tmp_path) / "tiny.item"
    header, *rows = file.read_text(encoding="utf-8").splitlines()
    lines = [row.rpartition("\t")[0] + "\t" for row in rows]  # without the price
    file.write_text("\n".join([header, *lines]) + "\n", encoding="utf-8")
    columns = {"inter": ["user_id", "item_id", "rating", "timestamp"], "item": ["item_id", "price"]}
    keys = {"data_path": str(tmp_path), "load_col": columns, "threshold": {"rating": 3}}
    config = Config("FM", "tiny", config_dict={**keys, "numerical_features": ["price"]})
    with pytest.raises(ValueError, match="numerical_features: 'price' has no value in data set"):
        create_dataset(config)


def test_a_column_that_is_not_loaded_is_missed(tmp_path: Path) -> None:
    write_tiny_dataset(tmp_path)
    without = {"load_col": None, "unload_col": {"inter": ["timestamp"]}}
    keys = {"data_path": str(tmp_path), "eval_args": {"order": "TO"}, **without}
    with pytest.raises(ValueError, match="^unload_col: leaves out the column 'timestamp'"):
        create_dataset(Config("BPR", "tiny", config_dict=keys))


def test_labels_that_are_not_loaded_are_missed(tmp_path: Path) -> None:
    """Training would fail at its first batch."""
    with pytest.raises(ValueError, match="^load_col: leaves out the column 'label' \\(LABEL_FIELD"):
        labeled(tmp_path, ["1", "0"], load_col={"inter": ["user_id", "item_id", "timestamp"]})
    drawn = {"eval_args": {"mode": "uni10"}, "train_neg_sample_args": {"distribution": "uniform"}}
    labeled(tmp_path, ["1", "0"], load_col={"inter": ["user_id", "item_id"]}, **drawn)


@pytest.mark.parametrize("model", ["LLMCF", "DIN"])
def test_labels_are_not_on_disk(tmp_path: Path, model: str) -> None:
    write_tiny_dataset(tmp_path)
    rated = {"split": {"RS": [8, 1, 1]}, "order": "TO", "mode": "labeled"}
    keys = {"data_path": str(tmp_path), "interactions": "disk", "eval_args": rated}
    with pytest.raises(ValueError, match=f"interactions: disk .* {model} learns labels"):
        create_dataset(Config(model, "tiny", config_dict=keys))


def test_labels_that_are_words_are_refused(tmp_path: Path) -> None:
    """A missing label would become the padding's 0."""
    file = write_tiny_dataset(tmp_path) / "tiny.inter"
    header, *rows = file.read_text(encoding="utf-8").splitlines()
    lines = [f"{row}\t{'1' if i % 2 else ''}" for i, row in enumerate(rows)]
    file.write_text("\n".join([f"{header}\tlabel:token", *lines]) + "\n", encoding="utf-8")
    columns = {"inter": ["user_id", "item_id", "rating", "timestamp", "label"]}
    own = {"data_path": str(tmp_path), "load_col": columns}
    with pytest.raises(ValueError, match="'label' .LABEL_FIELD. of type token, .* label:float in"):
        create_dataset(Config("FM", "tiny", config_dict=own))


def test_labels_stay_what_they_are_where_all_is_scaled(tmp_path: Path) -> None:
    """RecBole scales constant columns to 1."""
    made = labeled(tmp_path, ["0"], normalize_all=True)
    assert set(made.inter_feat["label"]) == {0}
    assert made.inter_feat["rating"].max() == 1
