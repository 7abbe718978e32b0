"""Loaders for a configuration."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from made_data import MakeConfig, leave_one_out
from recbole.data.dataloader import KGDataLoader as RecBoleKGDataLoader
from recbole.data.dataloader import UserDataLoader as RecBoleUserDataLoader
from recbole.data.dataset import Dataset, KnowledgeBasedDataset
from recbole.utils import KGDataLoaderState, init_seed

from recbole_llm.core.checkpoints.stored import plain_config
from recbole_llm.core.config import Config
from recbole_llm.data.create import create_dataset
from recbole_llm.data.datasets.sequence import SequentialDataset
from recbole_llm.data.prepare import data_preparation, get_dataloader
from recbole_llm.data.same_split import check_same_split
from recbole_llm.testing import write_tiny_dataset


def prepare(config: Any, dataset: Any = None) -> tuple[Any, Any, Any]:
    init_seed(1, True)
    dataset = SequentialDataset(config) if dataset is None else dataset
    loaders: tuple[Any, Any, Any] = data_preparation(config, dataset)
    return loaders


def test_nothing_is_pickled_or_unpickled(
    made: MakeConfig, caplog: pytest.LogCaptureFixture
) -> None:
    class Payload:
        def __reduce__(self) -> Any:
            return Path.touch, (Path("executed"),)

    for name in ("made-for-SASRec-dataloader.pth", "made-SequentialDataset.pth", "own.pth"):
        file = Path(made()["checkpoint_dir"]) / name
        file.parent.mkdir(exist_ok=True)
        file.write_bytes(pickle.dumps(Payload()))
    own = {"dataset_save_path": str(file), "dataloaders_save_path": str(file)}
    before = set(file.parent.iterdir())
    for keys in ({}, own, {"save_dataset": True, "save_dataloaders": True}):
        config = made(**keys)
        prepare(config, create_dataset(config))
    assert not Path("executed").exists() and set(file.parent.iterdir()) == before
    for keys in ("save_dataset and save_dataloaders", "save_path and dataloaders_save_path"):
        assert f"{keys}: without effect" in caplog.text


def test_what_makes_another_split(made: MakeConfig) -> None:
    then = plain_config(made())
    check_same_split(then, made(), "a.pth")
    for key in ("TIME_FIELD", "USER_ID_FIELD", "ITEM_ID_FIELD"):
        with pytest.raises(ValueError, match=rf"another split \({key}: .*, now rating\)"):
            check_same_split(then, made(**{key: "rating"}), "a.pth")
    check_same_split(then, made(eval_args=leave_one_out(mode="uni100")), "a.pth")
    with pytest.raises(ValueError, match=r"another split \(val_interval: "):
        check_same_split({**then, "val_interval": {}}, made(val_interval={"mode": ["a"]}), "a.pth")


def test_features_of_the_items_that_a_model_names(tmp_path: Path) -> None:
    write_tiny_dataset(tmp_path)
    with pytest.raises(ValueError, match="tiny.item' has no column 'class', which SASRecF reads"):
        create_dataset(Config("SASRecF", "tiny", config_dict={"data_path": str(tmp_path)}))
    named = {"data_path": str(tmp_path), "selected_features": ["title"]}
    config = Config("SASRecF", "tiny", config_dict=named)
    assert config["load_col"]["item"] == ["item_id", "title"]
    assert "title" in create_dataset(config).item_feat
    events = ["user_id", "item_id", "timestamp"]
    all_of_items = {**named, "load_col": {"inter": events, "item": "*"}}
    assert "title" in create_dataset(Config("SASRecF", "tiny", config_dict=all_of_items)).item_feat
    with pytest.raises(ValueError, match="load_col: expected a dict .*'item': None"):
        Config("SASRecF", "tiny", config_dict={"load_col": {"inter": events, "item": None}})
    without = {**named, "load_col": {"inter": events}}
    with pytest.raises(ValueError, match="load_col: leaves out the items' column 'title'"):
        create_dataset(Config("SASRecF", "tiny", config_dict=without))


@pytest.mark.parametrize(
    ("model", "column"), [("BPR", "user_id"), ("BPR", "item_id"), ("SASRec", "timestamp")]
)
def test_columns_of_the_interactions_that_a_model_needs(model: str, column: str) -> None:
    write_tiny_dataset("dataset")
    loaded = [name for name in ("user_id", "item_id", "timestamp") if name != column]
    keys = {"data_path": "dataset", "load_col": {"inter": loaded}}
    with pytest.raises(
        ValueError, match=f"load_col: leaves out the column '{column}'.*of the .inter"
    ):
        create_dataset(Config(model, "tiny", config_dict=keys))


def test_labels_of_ones_own_data(tmp_path: Path) -> None:
    """A click-through model reads a label column, or says how to get labels."""
    folder = write_tiny_dataset(tmp_path)
    with pytest.raises(
        ValueError, match=r"has no column 'label' \(LABEL_FIELD\), which FM.*thresh"
    ):
        create_dataset(Config("FM", "tiny", config_dict={"data_path": str(tmp_path)}))
    sampled = {"distribution": "uniform", "sample_num": 1, "alpha": 1.0, "dynamic": False}
    negatives = {"data_path": str(tmp_path), "train_neg_sample_args": sampled}
    with pytest.raises(ValueError, match="no column 'label'.*ranking eval_args.mode"):
        create_dataset(Config("FM", "tiny", config_dict=negatives))
    rated = {"data_path": str(tmp_path), "threshold": {"rating": 4}}
    assert set(create_dataset(Config("FM", "tiny", config_dict=rated)).inter_feat["label"]) == {
        0,
        1,
    }
    file = folder / "tiny.inter"
    header, *rows = file.read_text(encoding="utf-8").splitlines()
    lines = [f"{header}\tlabel:float", *(f"{row}\t1" for row in rows)]
    file.write_text("\n".join(lines) + "\n", encoding="utf-8")
    dataset = create_dataset(Config("FM", "tiny", config_dict={"data_path": str(tmp_path)}))
    assert set(dataset.inter_feat["label"]) == {1}


def test_unknown_level(made: MakeConfig) -> None:
    with pytest.raises(ValueError, match="train_level 'sequnce' is unknown; did you mean 'sequen"):
        made(train_level="sequnce")


def test_level_that_the_model_does_not_have() -> None:
    with pytest.raises(ValueError, match="'BERT4Rec' is not one; set train_level: prefix"):
        Config("BERT4Rec", "tiny", config_dict={"train_level": "sequence"})


def test_empty_training_split(tmp_path: Path, made: MakeConfig) -> None:
    write_tiny_dataset(tmp_path)
    first_alone = {"data_path": str(tmp_path), "val_interval": {"timestamp": "[1000,1000]"}}
    with pytest.raises(ValueError, match="training split is empty"):
        prepare(Config("SASRec", "tiny", config_dict=first_alone))
    with pytest.raises(ValueError, match="eval_args: split .* leaves nothing to train on"):
        made(eval_args=leave_one_out(split={"RS": [0, 0, 1]}, group_by="none"))


@pytest.mark.parametrize(
    ("split", "each", "part"),
    [
        ({"LS": "valid_and_test"}, 2, "validation"),
        ({"LS": "test_only"}, 2, "test"),
        ({"LS": "test_only"}, 3, ""),  # no validation part is asked for
        ({"RS": [8, 1, 1]}, 2, "validation"),
        ({"RS": [8, 0, 2]}, 4, ""),
    ],
)
def test_an_empty_part_that_is_asked_for_is_refused(
    tmp_path: Path, split: dict[str, Any], each: int, part: str
) -> None:
    rows = [f"u{user}\ti{user + item}\t{item}" for user in range(9) for item in range(each)]
    folder = tmp_path / "few"
    folder.mkdir()
    header = "user_id:token\titem_id:token\ttimestamp:float"
    (folder / "few.inter").write_text("\n".join([header, *rows]) + "\n")
    keys = {"data_path": str(tmp_path), "eval_args": leave_one_out(split=split)}
    config = Config("BPR", "few", config_dict=keys)
    if not part:
        assert len(prepare(config)[2])
        return
    with pytest.raises(ValueError, match=f"'few': the {part} split is empty: users have too few"):
        prepare(config)


@pytest.mark.parametrize(("mode", "reads"), [("full", True), ("uni3", True), ("full", False)])
def test_fields_of_interactions_are_not_there_for_all_items(
    tmp_path: Path, mode: str, reads: bool
) -> None:
    """Evaluation would fail after the first epoch. A sampled item has its interaction's fields."""
    file = write_tiny_dataset(tmp_path) / "tiny.inter"
    header, *rows = file.read_text(encoding="utf-8").splitlines()
    lines = [f"{header}\tslot:token", *(f"{row}\ts1" for row in rows)]
    file.write_text("\n".join(lines) + "\n", encoding="utf-8")
    args = {"eval_args": leave_one_out(mode=mode), "train_neg_sample_args": {"sample_num": 1}}
    unused = None if reads else {"inter": ["slot"]}
    own = {"load_col": None, "unused_col": unused, "metrics": "NDCG", "valid_metric": "NDCG@10"}
    config = Config("FM", "tiny", config_dict={"data_path": str(tmp_path), **args, **own})
    if mode == "full" and reads:
        with pytest.raises(ValueError, match="eval_args: mode full ranks .* FM reads slot, which"):
            prepare(config, create_dataset(config))
    else:
        assert len(prepare(config, create_dataset(config))) == 3


def test_knowledge_models_keep_recboles_loader(tmp_path: Path) -> None:
    write_tiny_dataset(tmp_path)
    config = Config("CKE", "tiny", config_dict={"data_path": str(tmp_path)})
    train, valid, _ = prepare(config, KnowledgeBasedDataset(config))
    assert type(train).__name__ == "KnowledgeBasedDataLoader"
    assert type(valid).__module__.startswith("recbole_llm")
    train.set_mode(KGDataLoaderState.RSKG)
    assert {"user_id", "neg_item_id", "neg_tail_id"} <= set(next(iter(train)).columns)


@pytest.mark.parametrize("model", ["MultiDAE", "CKE"])
def test_users_and_triplets_come_as_in_recbole(tmp_path: Path, model: str) -> None:
    write_tiny_dataset(tmp_path)
    config = Config(model, "tiny", config_dict={"data_path": str(tmp_path), "train_batch_size": 16})
    ours = prepare(config, create_dataset(config))[0]
    ours = getattr(ours, "kg_dataloader", ours)
    stock = RecBoleKGDataLoader if model == "CKE" else RecBoleUserDataLoader
    theirs = stock(config, ours.dataset, ours._sampler, shuffle=True)
    epochs = []
    for loader in (ours, theirs):
        np.random.seed(0)  # the seed for negatives
        batches = [batch.interaction for _ in range(2) for batch in loader]
        epochs.append([{name: v.tolist() for name, v in batch.items()} for batch in batches])
    assert epochs[0] == epochs[1] and len(epochs[0]) > 4


def test_autoencoders_keep_recboles_loader(tmp_path: Path) -> None:
    write_tiny_dataset(tmp_path)
    config = Config("MultiDAE", "tiny", config_dict={
        "data_path": str(tmp_path), "train_neg_sample_args": None,
    })  # fmt: skip
    assert get_dataloader(config, "train").__name__ == "UserDataLoader"
    train, valid, _ = prepare(config, Dataset(config))
    assert sum(len(batch) for batch in train) == 41
    assert len(next(iter(valid))[0]) == 40
