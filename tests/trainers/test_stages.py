"""What a training stage of RecBole's models may start from."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from recbole_llm import load_data_and_model, run_recbole_llm
from recbole_llm.core.checkpoints.checkpoint import load_checkpoint, write_checkpoint
from recbole_llm.core.config import Config

pytestmark = pytest.mark.usefixtures("tiny")
QUIET = {
    "epochs": 1, "show_progress": False, "data_path": "dataset",
    "MAX_ITEM_LIST_LENGTH": 5, "hidden_size": 8, "n_layers": 1,
}  # fmt: skip
PRETRAIN = {**QUIET, "item_attribute": "genre", "pretrain_epochs": 1}
FINETUNE = {**PRETRAIN, "train_stage": "finetune", "train_neg_sample_args": None}


@pytest.fixture
def first() -> str:
    file: str = run_recbole_llm("S3Rec", "tiny", config_dict=PRETRAIN)["checkpoint"]
    return file


def refused(file: str | Path, message: str) -> None:
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        Config("S3Rec", "tiny", config_dict={**FINETUNE, "pre_model_path": str(file)})


def stopped(file: str) -> Path:
    """Write a checkpoint as the file that a run keeps before each epoch; return its path."""
    last = Path(file).with_name("S3Rec-last.pth")
    write_checkpoint({**load_checkpoint(file), "run": {}}, last)
    return last


def test_a_stage_does_not_start_from_one_that_was_stopped(first: str) -> None:
    last = stopped(first)
    refused(
        last,
        f"pre_model_path: '{last}' is of a stopped run, which --resume={last} continues",
    )


def test_a_stopped_last_stage_is_loaded_from_its_own_file(first: str) -> None:
    keys = {**FINETUNE, "pre_model_path": first}
    last = stopped(run_recbole_llm("S3Rec", "tiny", config_dict=keys)["checkpoint"])
    assert load_data_and_model(str(last))[0]["train_stage"] == "finetune"


def test_a_stage_does_not_start_from_another_model() -> None:
    file = run_recbole_llm("SASRec", "tiny", config_dict=QUIET)["checkpoint"]
    refused(
        file,
        f"pre_model_path: '{file}' is of SASRec; name a checkpoint of S3Rec from the previous "
        "stage",
    )


def test_a_stage_does_not_start_from_items_in_another_order(first: str) -> None:
    """RecBole copies the rows of tables in their order, whatever items they belong to."""
    file = Path("dataset/tiny/tiny.inter")
    header, *rows = file.read_text().splitlines()
    file.write_text("\n".join([header, *reversed(rows)]) + "\n")
    keys: dict[str, Any] = {**FINETUNE, "pre_model_path": first}
    with pytest.raises(ValueError, match=f"^pre_model_path: '{first}': the data set has other"):
        run_recbole_llm("S3Rec", "tiny", config_dict=keys)
