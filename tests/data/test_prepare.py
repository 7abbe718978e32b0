"""Loaders for a configuration: which ones, and saved ones."""

from __future__ import annotations

import pickle
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from made_data import MakeConfig, assert_same_batches, assert_same_rows, leave_one_out
from recbole.data.dataset import Dataset, KnowledgeBasedDataset
from recbole.utils import KGDataLoaderState, init_seed

from recbole_llm.core.config import Config
from recbole_llm.data.create import create_dataset
from recbole_llm.data.prepare import data_preparation, get_dataloader
from recbole_llm.data.sequence import SequentialDataset
from recbole_llm.testing import write_tiny_dataset


def prepare(config: Any, dataset: Any = None) -> tuple[Any, Any, Any]:
    init_seed(1, True)
    dataset = SequentialDataset(config) if dataset is None else dataset
    loaders: tuple[Any, Any, Any] = data_preparation(config, dataset)
    return loaders


@pytest.mark.parametrize("level", ["prefix", "sequence"])
def test_saved_loaders_go_on_where_they_were(made: MakeConfig, level: str) -> None:
    settings = {"train_level": level, "train_batch_size": 32}
    expected = prepare(made(**settings, save_dataloaders=True))
    again = prepare(made(**settings))
    assert again[0].made_under["train_level"] == level  # read from the file
    for want, have in zip(expected, again, strict=True):
        # The live loaders kept their generators, too.
        assert_same_batches([*want, *want], [*have, *have])


@pytest.mark.parametrize(
    "changes",
    [
        {"train_level": "sequence"},
        {"shuffle": False},
        {"seed": 5},
        {"eval_args": leave_one_out(mode="uni5")},
        {"MAX_ITEM_LIST_LENGTH": 3},
    ],
    ids=str,
)
def test_saved_loaders_of_other_settings_are_left(
    made: MakeConfig, changes: dict[str, Any]
) -> None:
    prepare(made(save_dataloaders=True))
    assert not hasattr(prepare(made(**changes))[0], "made_under")


def test_saved_loaders_follow_new_batch_sizes(made: MakeConfig) -> None:
    prepare(made(save_dataloaders=True, train_batch_size=32))
    train = prepare(made(train_batch_size=10))[0]
    assert hasattr(train, "made_under")
    assert {len(batch) for batch in train} <= {10, len(train.dataset) % 10}


def test_saved_loaders_of_other_item_vectors_are_left(made: MakeConfig) -> None:
    def dataset(fingerprint: str, **changes: Any) -> SequentialDataset:
        result = SequentialDataset(made(**changes))
        result.features = {"item_text": SimpleNamespace(fingerprint=fingerprint)}
        return result

    first = dataset("old", save_dataloaders=True)
    prepare(first.config, first)
    assert hasattr(prepare(made(), dataset("old"))[0], "made_under")
    assert not hasattr(prepare(made(), dataset("new"))[0], "made_under")
    assert not hasattr(prepare(made())[0], "made_under")


def test_saved_labelled_loaders_are_reloaded(made: MakeConfig) -> None:
    settings = {
        "eval_args": leave_one_out(mode="labeled"), "metrics": ["AUC"], "valid_metric": "AUC",
        "threshold": {"rating": 3}, "numerical_features": [],
    }  # fmt: skip
    expected = prepare(made(**settings, save_dataloaders=True))
    for want, have in zip(expected, prepare(made(**settings)), strict=True):
        assert_same_batches(list(want), list(have))


@pytest.mark.parametrize(
    ("name", "load"),
    [("made-for-SASRec-dataloader.pth", prepare), ("made-SequentialDataset.pth", create_dataset)],
)
def test_damaged_saved_files_are_named(made: MakeConfig, name: str, load: Any) -> None:
    config = made()
    file = Path(config["checkpoint_dir"]) / name
    file.parent.mkdir(exist_ok=True)
    file.write_bytes(pickle.dumps([1, 2, 3])[:-4])
    with pytest.raises(ValueError, match=f"{name}.*delete the file"):
        load(config)


def test_saved_data_set_is_the_same(made: MakeConfig) -> None:
    first = create_dataset(made(save_dataset=True))
    second = create_dataset(made())
    assert type(first) is type(second) is SequentialDataset
    for want, have in zip(first.build(), second.build(), strict=True):
        assert_same_rows(want[:], have[:])


def test_features_of_a_saved_data_set_are_made_anew(made: MakeConfig) -> None:
    """The encoder, its weights or the texts may have changed since."""
    first = create_dataset(made())
    first.features = {"item_text": SimpleNamespace(fingerprint="old")}
    first.save()
    again = create_dataset(made())
    assert type(again) is type(first) and again is not first
    assert not hasattr(again, "features")


@pytest.mark.parametrize("model", ["SASRec", "BPR"])
def test_a_saved_data_set_is_split_by_the_present_settings(model: str, tmp_path: Path) -> None:
    write_tiny_dataset(tmp_path)

    def rows(**settings: Any) -> list[int]:
        paths = {"data_path": str(tmp_path), "checkpoint_dir": str(tmp_path / "saved")}
        config = Config(model, "tiny", config_dict={**paths, **settings})
        return [len(part) for part in create_dataset(config).build()]

    halves = {"eval_args": {"split": {"RS": [0.5, 0.25, 0.25]}, "order": "TO"}}
    before = rows(save_dataset=True)
    assert list(tmp_path.glob("saved/tiny-*.pth"))
    assert rows(**halves) != before
    assert rows() == before
    # Numbers are made of columns when the data set is loaded, so another choice loads it anew.
    assert rows(numerical_features=["rating"]) == before


def test_features_of_the_items_that_a_model_names(tmp_path: Path) -> None:
    write_tiny_dataset(tmp_path)
    with pytest.raises(ValueError, match="tiny.item' has no column 'class', which SASRecF reads"):
        create_dataset(Config("SASRecF", "tiny", config_dict={"data_path": str(tmp_path)}))
    named = {"data_path": str(tmp_path), "selected_features": ["title"]}
    config = Config("SASRecF", "tiny", config_dict=named)
    assert config["load_col"]["item"] == ["item_id", "title"]
    assert "title" in create_dataset(config).item_feat
    without = {**named, "load_col": {"inter": ["user_id", "item_id", "timestamp"]}}
    with pytest.raises(ValueError, match="load_col: leaves out the items' column 'title'"):
        create_dataset(Config("SASRecF", "tiny", config_dict=without))


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
    with pytest.raises(ValueError, match="'BERT4Rec' is not; set train_level: prefix"):
        Config("BERT4Rec", "tiny", config_dict={"train_level": "sequence"})


def test_empty_training_split(tmp_path: Path, made: MakeConfig) -> None:
    write_tiny_dataset(tmp_path)
    first_alone = {"data_path": str(tmp_path), "val_interval": {"timestamp": "[1000,1000]"}}
    with pytest.raises(ValueError, match="training split is empty"):
        prepare(Config("SASRec", "tiny", config_dict=first_alone))
    with pytest.raises(ValueError, match="eval_args: split .* leaves nothing to train on"):
        made(eval_args=leave_one_out(split={"RS": [0, 0, 1]}, group_by="none"))


def test_knowledge_models_keep_recboles_loader(tmp_path: Path) -> None:
    write_tiny_dataset(tmp_path)
    config = Config("CKE", "tiny", config_dict={"data_path": str(tmp_path)})
    train, valid, _ = prepare(config, KnowledgeBasedDataset(config))
    assert type(train).__name__ == "KnowledgeBasedDataLoader"
    assert type(valid).__module__.startswith("recbole_llm")
    train.set_mode(KGDataLoaderState.RSKG)
    assert {"user_id", "neg_item_id", "neg_tail_id"} <= set(next(iter(train)).columns)


def test_autoencoders_keep_recboles_loader(tmp_path: Path) -> None:
    write_tiny_dataset(tmp_path)
    config = Config("MultiDAE", "tiny", config_dict={
        "data_path": str(tmp_path), "train_neg_sample_args": None,
    })  # fmt: skip
    assert get_dataloader(config, "train").__name__ == "UserDataLoader"
    train, valid, _ = prepare(config, Dataset(config))
    assert sum(len(batch) for batch in train) == 41
    assert len(next(iter(valid))[0]) == 40
