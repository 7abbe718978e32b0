"""The index-only data set against RecBole's own, bit for bit."""

from __future__ import annotations

import copy
import pickle
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from made_data import (
    HAS_TS,
    MakeConfig,
    RecBoleDataset,
    assert_same_rows,
    leave_one_out,
    made_config,
    write_interactions,
)
from recbole.data.interaction import Interaction

from recbole_llm.core.config import Config
from recbole_llm.data.create import create_dataset
from recbole_llm.data.datasets.sequence import SequentialDataset
from recbole_llm.data.rows.interaction import SequenceInteraction

SPLITS = [
    *({"split": {"LS": mode}} for mode in ("valid_and_test", "valid_only", "test_only")),
    {"split": {"RS": [0.8, 0.1, 0.1]}},
    {"split": {"RS": [6, 2, 1]}},
    {"split": {"RS": [0.8, 0.1, 0.1]}, "group_by": "none"},
    {"split": {"TS": [0.8, 0.1, 0.1]}},
]


def assert_same_splits(config: Any) -> list[SequentialDataset]:
    if "TS" in config["eval_args"]["split"] and not HAS_TS:
        pytest.skip("RecBole 1.2.0 has no time-based split")
    expected = RecBoleDataset(config).build()
    whole = SequentialDataset(config)
    actual = whole.build()
    assert len(expected) == len(actual)
    for want, have in zip(expected, actual, strict=True):
        assert isinstance(have.inter_feat, SequenceInteraction)
        assert list(want.inter_feat) == list(have.inter_feat)
        assert_same_rows(want[:], have[:])
        assert want.field2type == have.field2type
        assert want.field2source == have.field2source
        assert want.field2seqlen == have.field2seqlen
    return actual


@pytest.mark.parametrize("split", SPLITS, ids=str)
def test_splits_are_recboles(made: MakeConfig, split: dict[str, Any]) -> None:
    assert_same_splits(made(eval_args=leave_one_out(**split)))


@pytest.mark.parametrize("length", [1, 2, 50])
def test_list_lengths(made: MakeConfig, length: int) -> None:
    assert_same_splits(made(MAX_ITEM_LIST_LENGTH=length))


def test_ml_100k_with_all_fields() -> None:
    config = Config(
        "SASRec", "ml-100k", config_dict={
            "load_col": None, "MAX_ITEM_LIST_LENGTH": 20, "eval_args": leave_one_out(),
            "numerical_features": ["rating"], "train_level": "prefix", "exact_times": False,
        },
    )  # fmt: skip
    train, _, test = assert_same_splits(config)
    assert train[:]["rating_list"].shape == (97171, 20, 2)
    assert {"age", "class", "title_list"} - set(test[:].columns) == {"title_list"}


@pytest.mark.slow
@pytest.mark.parametrize("split", SPLITS, ids=str)
def test_ml_100k_splits(split: dict[str, Any]) -> None:
    settings = {"MAX_ITEM_LIST_LENGTH": 50, "eval_args": leave_one_out(**split)}
    settings["exact_times"] = False
    assert_same_splits(Config("SASRec", "ml-100k", config_dict=settings))


@settings(max_examples=20)
@given(
    rows=st.lists(st.tuples(st.integers(0, 6), st.integers(0, 9)), min_size=1, max_size=40),
    length=st.integers(1, 5),
    split=st.sampled_from(SPLITS[:5]),
    seed=st.integers(0, 9),
)
def test_any_history(
    rows: list[tuple[int, int]], length: int, split: dict[str, Any], seed: int
) -> None:
    users, times = zip(*rows, strict=True)
    with tempfile.TemporaryDirectory() as folder:
        write_interactions(Path(folder), users, times, 5, seed)
        args = leave_one_out(**split)
        assert_same_splits(made_config(Path(folder), MAX_ITEM_LIST_LENGTH=length, eval_args=args))


def test_unused_columns_are_dropped_alike(made: MakeConfig) -> None:
    splits = assert_same_splits(made(unused_col={"inter": ["timestamp", "tags_list"]}))
    assert "timestamp" not in splits[0].inter_feat
    assert "timestamp_list" in splits[0].inter_feat
    assert "tags_list" not in splits[0][:].columns


def test_short_sequence_fields_follow_recboles_broadcast(made: MakeConfig) -> None:
    # All tags cut to one: RecBole's field2seqlen then says 1 as well.
    assert_same_splits(made(seq_len={"tags": 1, "weights": 2}))


def test_benchmark_files_are_recboles(tmp_path: Path) -> None:
    folder = tmp_path / "bench"
    folder.mkdir()
    header = "user_id:token\titem_id:token\titem_id_list:token_seq"
    for part, rows in {
        "train": ["u1\ti3\ti1 i2", "u2\ti2\ti1"], "valid": ["u1\ti4\ti1 i2 i3"],
        "test": ["u1\ti1\ti2 i3 i4"],
    }.items():  # fmt: skip
        (folder / f"bench.{part}.inter").write_text("\n".join([header, *rows]) + "\n")
    config = Config("SASRec", "bench", config_dict={
        "data_path": str(tmp_path), "benchmark_filename": ["train", "valid", "test"],
        "load_col": {"inter": ["user_id", "item_id", "item_id_list"]}, "train_level": "prefix",
        "alias_of_item_id": ["item_id_list"], "eval_args": leave_one_out(),
    })  # fmt: skip
    expected, actual = RecBoleDataset(config).build(), SequentialDataset(config).build()
    for want, have in zip(expected, actual, strict=True):
        assert type(have.inter_feat) is Interaction
        assert_same_rows(want[:], have[:])
        assert_same_rows(want[np.array([0])], have[np.array([0])])


def ready_made(folder: Path, content: str) -> dict[str, Any]:
    """The keys of a data set `bench` whose three parts have this content."""
    (folder / "bench").mkdir()
    for part in ("train", "valid", "test"):
        (folder / "bench" / f"bench.{part}.inter").write_text(content)
    return {"data_path": str(folder), "benchmark_filename": ["train", "valid", "test"]}


def test_ready_made_histories_are_loaded_and_read_whole(tmp_path: Path) -> None:
    header = "user_id:token\titem_id:token\titem_id_list:token_seq"
    names = ready_made(tmp_path, f"{header}\nu1\ti1\ti2 i3 i1\n")
    with pytest.raises(ValueError, match="leaves out the interactions' column 'item_id_list'") as e:
        create_dataset(Config("SASRec", "bench", config_dict=names))
    said = [word.replace('"', "") for word in str(e.value).partition("; set ")[2].split(" --load")]
    argv = [said[0], f"--load{said[1]}"]
    whole = [*argv, "--train_level=sequence"]  # the default for other data sets
    with pytest.raises(ValueError, match="ready-made splits have lists .* --train_level=prefix$"):
        create_dataset(Config("SASRec", "bench", config_dict=names, argv=whole))
    create_dataset(Config("SASRec", "bench", config_dict=names, argv=argv))
    with pytest.raises(ValueError, match=r"other numbers in histories .* \['item_id_list'\]$"):
        create_dataset(Config("SASRec", "bench", config_dict=names, argv=argv[1:]))
    with pytest.raises(ValueError, match="MAX_ITEM_LIST_LENGTH: histories .* up to 3 items, but 2"):
        create_dataset(
            Config("SASRec", "bench", config_dict={**names, "MAX_ITEM_LIST_LENGTH": 2}, argv=argv)
        )
    with pytest.raises(ValueError, match="protocol: benchmark_filename names files that are al"):
        Config("SASRec", "bench", config_dict=names, argv=[*argv, "--protocol=leave-one-out"])


def test_benchmark_files_without_histories_are_refused(tmp_path: Path) -> None:
    names = ready_made(tmp_path, "user_id:token\titem_id:token\nu1\ti1\n")
    with pytest.raises(ValueError, match="no column 'item_id_list', where ready-made splits"):
        create_dataset(Config("SASRec", "bench", config_dict=names))


def test_an_order_in_time_needs_times(tmp_path: Path) -> None:
    (tmp_path / "timeless").mkdir()
    file = tmp_path / "timeless" / "timeless.inter"
    file.write_text("user_id:token\titem_id:token\nu1\ti1\n")
    keys = {"data_path": str(tmp_path), "protocol": "leave-one-out"}
    with pytest.raises(ValueError, match=r"no column 'timestamp' \(TIME_FIELD\), which BPR needs"):
        create_dataset(Config("BPR", "timeless", config_dict=keys))


def test_missing_time_field_is_named(made: MakeConfig) -> None:
    config = made(load_col={"inter": ["user_id", "item_id"]}, numerical_features=[])
    with pytest.raises(ValueError, match="'timestamp'.*load_col"):
        SequentialDataset(config).build()


class TestView:
    """The view reads like RecBole's ``Interaction``."""

    @pytest.fixture
    def pair(self, made: MakeConfig) -> tuple[Any, Any]:
        config = made()
        datasets = RecBoleDataset(config), SequentialDataset(config)
        for dataset in datasets:
            dataset.build()
        return datasets

    @pytest.mark.parametrize(
        "index",
        [
            slice(2, 9), range(3), [0, 5, 5], [], np.array([1, 2]), torch.tensor([3]),
            torch.arange(150) % 3 == 0, [True, False] * 75,
        ],
        ids=["slice", "range", "list", "empty", "array", "tensor", "mask", "bool list"],
    )  # fmt: skip
    def test_rows(self, pair: tuple[Any, Any], index: Any) -> None:
        want, have = (d.inter_feat[:150] for d in pair)
        if isinstance(index, list) and not index:
            assert len(have[index]) == 0
            return
        assert isinstance(have[index], SequenceInteraction)
        assert_same_rows(want[index], have.batch(index))
        assert_same_rows(want[index], have[index][:].batch(slice(None)))

    def test_columns(self, pair: tuple[Any, Any]) -> None:
        want, have = (d.inter_feat for d in pair)
        assert "item_id_list" in have
        assert "nothing" not in have
        assert have.columns == want.columns
        assert torch.equal(have["tags_list"], want["tags_list"])
        assert torch.equal(have.item_id, want.item_id)
        with pytest.raises(AttributeError):
            _ = have.nothing

    def test_sort_and_shuffle(self, pair: tuple[Any, Any]) -> None:
        for dataset in pair:
            dataset.sort(by=["item_id", "timestamp"])
        assert_same_rows(pair[0][:], pair[1][:])
        for dataset in pair:
            torch.manual_seed(3)
            dataset.shuffle()
        assert_same_rows(pair[0][:], pair[1][:])

    def test_set_drop_prefix(self, pair: tuple[Any, Any]) -> None:
        for dataset in pair:
            inter = dataset.inter_feat
            inter["extra"] = torch.arange(len(inter))
            inter.update(Interaction({"more": torch.ones(len(inter))}))
            inter.drop("rating_list")
            inter.sort(by="item_id")
        want, have = (d.inter_feat for d in pair)
        assert_same_rows(want[:], have.batch(slice(None)))
        with pytest.raises(ValueError, match="nothing"):
            have.drop("nothing")

    def test_whole_interaction_methods(self, pair: tuple[Any, Any]) -> None:
        want, have = (d.inter_feat[:6] for d in pair)
        assert_same_rows(want.to("cpu"), have.to("cpu"))
        assert_same_rows(want.repeat(2), have.repeat(2))
        assert_same_rows(want.repeat_interleave(2), have.repeat_interleave(2))
        assert {k: v.shape for k, v in want.numpy().items()} == {
            k: v.shape for k, v in have.numpy().items()
        }
        assert str(want) == str(have)

    def test_copies_are_independent(self, pair: tuple[Any, Any]) -> None:
        have = pair[1].inter_feat
        have["extra"] = torch.zeros(len(have))
        before = have.batch(slice(None))
        other = copy.deepcopy(have)
        other["extra"] += 1
        other.sort(by="item_id")
        assert_same_rows(before, have.batch(slice(None)))
        assert not have["extra"].any()
        assert other.interaction.source is have.interaction.source

    def test_derived_matrices(self, pair: tuple[Any, Any]) -> None:
        assert (pair[0].inter_matrix("csr") != pair[1].inter_matrix("csr")).nnz == 0
        assert pair[0].item_counter == pair[1].item_counter
        assert str(pair[0]) == str(pair[1])
        histories = []
        for dataset in pair:
            torch.manual_seed(1)
            histories.append(dataset.history_item_matrix()[0])
        assert torch.equal(*histories)

    def test_pickle_carries_no_gathered_lists(self, pair: tuple[Any, Any]) -> None:
        dataset = pair[1]
        small = len(pickle.dumps(dataset.inter_feat))
        _ = dataset.inter_feat["tags_list"]
        again = pickle.dumps(dataset.inter_feat)
        assert len(again) == small
        assert_same_rows(
            dataset.inter_feat[:].batch(slice(None)), pickle.loads(again).batch(slice(None))
        )

    def test_splits_share_the_interactions(self, made: MakeConfig) -> None:
        train, valid, _ = SequentialDataset(made()).build()
        assert train.inter_feat.interaction.source is valid.inter_feat.interaction.source
