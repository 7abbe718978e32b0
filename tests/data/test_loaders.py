"""Loaders against RecBole's: the same batches in the same order under the same seed."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from made_data import (
    MakeConfig,
    RecBoleDataset,
    RecBoleGeneral,
    assert_same_batches,
    leave_one_out,
)
from recbole.data.dataloader import FullSortEvalDataLoader as RecBoleFullSort
from recbole.data.utils import data_preparation as recbole_preparation
from recbole.utils import init_seed
from torch.utils.data import BatchSampler, RandomSampler

from recbole_llm.core.config import Config
from recbole_llm.data.datasets.dataset import Dataset
from recbole_llm.data.datasets.sequence import SequentialDataset
from recbole_llm.data.loading.eval_loader import FullSortEvalDataLoader
from recbole_llm.data.loading.loaders import IndexBatches
from recbole_llm.data.loading.ranking_step import user_bytes
from recbole_llm.data.prepare import data_preparation
from recbole_llm.testing import write_tiny_dataset

_NAMED = os.environ.get("RECBOLE_LLM_DATA")
DATA = Path(_NAMED).resolve() if _NAMED else None  # before tests change the folder


# Uniform only: popularity is counted differently from RecBole, see test_samplers.py.
def negatives(**changes: Any) -> dict[str, Any]:
    args = {"distribution": "uniform", "sample_num": 1, "alpha": 1.0, "dynamic": False}
    return {**args, "candidate_num": 0, **changes}


DRAWN = {"eval_candidates": "drawn"}  # RecBole's way
PAIRS = {"loss_type": "BPR", "train_neg_sample_args": negatives(sample_num=2)}
SEQUENTIAL = [
    {},
    PAIRS,
    {"shuffle": False},
    {"transform": "mask_itemseq", "mask_ratio": 0.3},
    {"transform": "crop_itemseq", "eta": 0.6, "eval_args": leave_one_out(mode="uni4"), **DRAWN},
    {"eval_args": leave_one_out(mode="uni5"), **DRAWN},
    {
        "eval_args": leave_one_out(split={"RS": [0.8, 0.1, 0.1]}, group_by="none", mode="uni3"),
        **DRAWN,
    },
]


@pytest.mark.parametrize("size", [3, 4])
@pytest.mark.parametrize("taken", range(5))
def test_batches_that_nobody_takes_draw_like_torchs(size: int, taken: int) -> None:
    """RecBole takes part of a knowledge graph's batches, and then starts again."""
    left = []
    for kind in (IndexBatches, BatchSampler):
        generator = torch.Generator().manual_seed(5)
        sampler = RandomSampler(range(9), generator=generator)
        batches = kind(sampler, size) if kind is IndexBatches else kind(sampler, size, False)
        some = [list(map(int, batch)) for batch in islice(iter(batches), taken)]
        left.append((some, generator.get_state().tolist()))
    assert left[0] == left[1]


def loaders_of(config: Any, cls: type, prepare: Any) -> tuple[Any, Any, Any]:
    init_seed(3, True)
    loaders: tuple[Any, Any, Any] = prepare(config, cls(config))
    return loaders


def assert_same_loaders(make: Any, stock: type, ours: type) -> None:
    expected = loaders_of(make(), stock, recbole_preparation)
    actual = loaders_of(make(), ours, data_preparation)
    for loaders in zip(expected, actual, strict=True):
        assert len(loaders[0]) == len(loaders[1])
    # Epochs interleaved with evaluation, as training does: all random streams stay in step.
    batches = []
    for loaders in (expected, actual):
        init_seed(4, True)
        batches.append([list(loaders[i]) for i in (0, 1, 0, 2)])
    for want, have in zip(*batches, strict=True):
        assert_same_batches(want, have)
    for want, have in zip(expected, actual, strict=True):
        assert torch.equal(want.generator.get_state(), have.generator.get_state())


@pytest.mark.parametrize("changes", SEQUENTIAL, ids=lambda c: ",".join(c) or "CE")
def test_sequential(made: MakeConfig, changes: dict[str, Any]) -> None:
    settings = {"train_batch_size": 32, "eval_batch_size": 50, **changes}
    assert_same_loaders(lambda: made(**settings), RecBoleDataset, SequentialDataset)


def test_sequential_with_labels(made: MakeConfig) -> None:
    args = {"eval_args": leave_one_out(mode="labeled"), "metrics": ["AUC"], "valid_metric": "AUC"}
    settings = {**args, "threshold": {"rating": 3}, "numerical_features": ["weights"]}
    assert_same_loaders(lambda: made(**settings), RecBoleDataset, SequentialDataset)


def test_ml_100k() -> None:
    settings = {"MAX_ITEM_LIST_LENGTH": 20, "eval_args": leave_one_out(), "train_level": "prefix"}
    settings["exact_times"] = False
    assert_same_loaders(
        lambda: Config("SASRec", "ml-100k", config_dict=settings), RecBoleDataset, SequentialDataset
    )


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"train_neg_sample_args": negatives(sample_num=3)},
        {"repeatable": True},
        {"eval_args": leave_one_out(order="RO", mode="uni10"), **DRAWN},
        {"model": "LR", "eval_args": leave_one_out(order="RO", mode="uni10"), **DRAWN},
        {"model": "LR", "eval_args": leave_one_out(order="RO", mode="labeled"),
         "metrics": ["AUC"], "valid_metric": "AUC", "threshold": {"rating": 3},
         "train_neg_sample_args": None},
    ],
    ids=lambda c: ",".join(c) or "BPR",
)  # fmt: skip
def test_general(tmp_path: Path, changes: dict[str, Any]) -> None:
    write_tiny_dataset(tmp_path)
    settings = {"data_path": str(tmp_path), "eval_memory_mib": 0, "load_col": None, **changes}
    model = settings.pop("model", "BPR")
    assert_same_loaders(
        lambda: Config(model, "tiny", config_dict=settings), RecBoleGeneral, Dataset
    )


def general_config(folder: Path, **changes: Any) -> Config:
    if not (folder / "tiny").exists():
        write_tiny_dataset(folder)
    return Config("BPR", "tiny", config_dict={"data_path": str(folder), **changes})


@pytest.mark.parametrize("mode", ["uni5", "pop5"])
@pytest.mark.parametrize("extra", [{}, {"transform": "mask_itemseq", "mask_ratio": 0.3}])
def test_candidates_are_fixed(made: MakeConfig, mode: str, extra: dict[str, Any]) -> None:
    """Seed and epoch do not change candidates, nor does batch size without RecBole's collation."""

    def candidates(seed: int, size: int) -> list[torch.Tensor]:
        config = made(eval_args=leave_one_out(mode=mode), eval_batch_size=size, **extra)
        _, valid, test = loaders_of(config, SequentialDataset, data_preparation)
        init_seed(seed, True)
        before = np.random.get_state()[1].copy()
        drawn = [torch.cat([rows["item_id"] for rows, *_ in it]) for it in (valid, test, test)]
        assert (np.random.get_state()[1] == before).all()  # training's random state is untouched
        return drawn

    valid, test, again = candidates(1, 50)
    assert test.equal(again) and not valid.equal(test)
    assert len(test[:6].unique()) > 2
    sizes = (50,) if extra else (50, 12)
    for size in sizes:
        assert candidates(2, size)[1].equal(test)


def test_no_candidate_is_in_the_ready_made_history_of_a_user_new_to_training(
    tmp_path: Path,
) -> None:
    folder = tmp_path / "parts"
    folder.mkdir()
    items = [f"i{number}" for number in range(1, 31)]
    for part, users in {"train": "abc", "valid": "de", "test": "fg"}.items():
        rows = [f"{user}\t{items[-1]}\t{' '.join(items[:20])}" for user in users]
        if part == "train":
            rows = [f"{users[i % 3]}\t{item}\t{items[i - 3]}" for i, item in enumerate(items)]
        header = "user_id:token\titem_id:token\titem_id_list:token_seq"
        (folder / f"parts.{part}.inter").write_text("\n".join([header, *rows]) + "\n")
    config = Config("SASRec", "parts", config_dict={
        "data_path": str(tmp_path), "benchmark_filename": ["train", "valid", "test"],
        "alias_of_item_id": ["item_id_list"], "train_level": "prefix",
        "load_col": {"inter": ["user_id", "item_id", "item_id_list"]},
        "eval_args": leave_one_out(mode="uni8"),
    })  # fmt: skip
    for loader in loaders_of(config, SequentialDataset, data_preparation)[1:]:
        for rows, *_ in loader:
            assert not (rows["item_id"][:, None] == rows["item_id_list"]).any()


@pytest.mark.parametrize("mode", ["uni5", "pop5"])
def test_candidates_are_the_same_for_sequential_and_other_models(tmp_path: Path, mode: str) -> None:
    """No candidate is an item that the user already had."""
    write_tiny_dataset(tmp_path)
    found: list[list[dict[int, list[int]]]] = []
    for model, cls in (("SASRec", SequentialDataset), ("BPR", Dataset)):
        keys = {"data_path": str(tmp_path), "eval_args": leave_one_out(mode=mode)}
        loaders = loaders_of(Config(model, "tiny", config_dict=keys), cls, data_preparation)
        found.append([])
        for loader in loaders[1:]:
            users: dict[int, list[int]] = {}
            for rows, *_ in loader:
                for user, item in zip(rows["user_id"].tolist(), rows["item_id"].tolist()):
                    users.setdefault(user, []).append(item)
            found[-1].append(users)
    assert found[0] == found[1] and len(found[0][1]) > 30
    used: dict[int, set[int]] = {}
    for loader in loaders:  # BPR's loaders, which have all interactions
        inter = loader.dataset.inter_feat
        for user, item in zip(inter["user_id"].tolist(), inter["item_id"].tolist(), strict=True):
            used.setdefault(user, set()).add(item)
    for user, (positive, *negatives) in found[0][1].items():
        assert positive in used[user] and not used[user] & set(negatives)


def test_users_a_step_of_sampled_candidates_fit_the_budget(tmp_path: Path) -> None:
    """RecBole's trainer puts the candidates' scores into rows of the whole catalogue."""
    args = leave_one_out(mode="uni5")
    config = general_config(tmp_path, eval_memory_mib=0.01, eval_args=args)
    test = data_preparation(config, Dataset(config))[2]
    assert test.step == int(0.01 * 2**20 // (16 * test.dataset.item_num))


class TestFullSort:
    def test_users_a_step_fit_the_budget(self, tmp_path: Path) -> None:
        config = general_config(tmp_path, eval_memory_mib=0.01)
        test = data_preparation(config, Dataset(config))[2]
        fitting = int(0.01 * 2**20 // user_bytes(config, test.dataset))
        assert 1 < fitting < 40
        assert test.step == fitting
        assert [len(batch[0]) for batch in test][:2] == [fitting, fitting]

    def test_batches_hold_the_same_users_whatever_the_budget(self, tmp_path: Path) -> None:
        results = []
        for budget in (1e-9, 0.01, 512):
            config = general_config(tmp_path, eval_memory_mib=budget)
            init_seed(1, True)
            test = data_preparation(config, Dataset(config))[2]
            users, triples = [], []
            for rows, (history_u, history_i), positive_u, positive_i in test:
                uids = rows["user_id"]
                users += uids.tolist()
                for kind, u, i in (("h", history_u, history_i), ("p", positive_u, positive_i)):
                    triples += [(kind, *p) for p in zip(uids[u].tolist(), i.tolist(), strict=True)]
            results.append((users, sorted(triples)))
        assert results[0] == results[1] == results[2]

    def test_reads_like_recboles(self, tmp_path: Path) -> None:
        config = general_config(tmp_path)
        init_seed(1, True)
        ours = data_preparation(config, Dataset(config))[2]
        init_seed(1, True)
        stock = recbole_preparation(config, Dataset(config))[2]
        assert isinstance(ours, RecBoleFullSort)
        assert ours.uid_list.tolist() == stock.uid_list.tolist()
        assert ours.uid2items_num.tolist() == stock.uid2items_num.tolist()
        for name in ("uid2positive_item", "uid2history_item"):
            users = [3, 1, 7]
            want, have = getattr(stock, name)[users], getattr(ours, name)[users]
            assert [sorted(t.tolist()) for t in want] == [t.tolist() for t in have]

    def test_sequences_never_exceed_eval_batch_size(self, made: MakeConfig) -> None:
        config = made(eval_memory_mib=512, eval_batch_size=5)
        test = data_preparation(config, SequentialDataset(config))[2]
        assert isinstance(test, FullSortEvalDataLoader)
        assert test.step == 5
        config = made(eval_memory_mib=1e-9, eval_batch_size=5)
        assert data_preparation(config, SequentialDataset(config))[2].step == 1

    def test_models_that_score_pairs_get_smaller_steps(self, tmp_path: Path) -> None:
        config = general_config(tmp_path)
        dataset = Dataset(config)
        dataset.build()
        pairs = Config("NeuMF", "tiny", config_dict={"data_path": str(tmp_path)})
        # Four float32 scores an item; for pairs also two copies of user_id and item_id (int64).
        assert user_bytes(config, dataset) == 61 * 16
        assert user_bytes(pairs, dataset) == 61 * (16 + 2 * (8 + 8))

    def test_negative_budget_is_refused(self, tmp_path: Path) -> None:
        with pytest.raises(ValueError, match="eval_memory_mib: expected a number of at least 0"):
            general_config(tmp_path, eval_memory_mib=-1)


@pytest.fixture
def _no_fork_by_default() -> Iterator[None]:
    before = multiprocessing.get_start_method()
    multiprocessing.set_start_method("forkserver", force=True)  # the default of Python 3.14
    yield
    multiprocessing.set_start_method(before, force=True)


@pytest.mark.usefixtures("_no_fork_by_default")
def test_worker_processes_give_the_same(made: MakeConfig) -> None:
    batches = []
    for workers in (0, 1):
        config = made(worker=workers, train_batch_size=64)
        train = loaders_of(config, SequentialDataset, data_preparation)[0]
        batches.append(list(train))
    assert_same_batches(*batches)


def test_row_overhead_is_gone(made: MakeConfig) -> None:
    """The index of a batch stays a tensor, and no list of positions is kept."""
    config = made()
    train = loaders_of(config, SequentialDataset, data_preparation)[0]
    index = next(iter(train._index_sampler))
    assert isinstance(index, torch.Tensor)
    assert sorted(np.concatenate([i.numpy() for i in train._index_sampler])) == list(
        range(len(train.dataset))
    )


@pytest.mark.slow
@pytest.mark.skipif(DATA is None, reason="RECBOLE_LLM_DATA names none")
@pytest.mark.parametrize("keys", [{}, PAIRS], ids=["CE", "BPR"])
def test_a_data_set_at_hand(keys: dict[str, Any]) -> None:
    """RECBOLE_LLM_DATA=data/shop: the batches of that data set are RecBole's, bit for bit."""
    assert DATA is not None

    def make() -> Config:
        settings = {"data_path": str(DATA.parent), "eval_args": leave_one_out(), **keys}
        fixed = {"train_level": "prefix", "eval_memory_mib": 0, "MAX_ITEM_LIST_LENGTH": 20,
                 "exact_times": False}  # fmt: skip
        return Config("SASRec", DATA.name, config_dict={**settings, **fixed})

    assert_same_loaders(make, RecBoleDataset, SequentialDataset)
