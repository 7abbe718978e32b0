"""Sequence-level training batches."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import pytest
import torch
from made_data import MakeConfig, RecBoleDataset, leave_one_out
from torch import Tensor

from recbole_llm.core.config import Config
from recbole_llm.data.datasets.sequence import SequentialDataset
from recbole_llm.data.loading.sequence_loader import SequenceTrainDataLoader
from recbole_llm.data.prepare import data_preparation

BPR = {
    "loss_type": "BPR",
    "train_neg_sample_args": {
        "distribution": "uniform", "sample_num": 3, "alpha": 1.0, "dynamic": False,
        "candidate_num": 0,
    },
}  # fmt: skip
SPLITS = [
    {},
    {"split": {"RS": [0.7, 0.2, 0.1]}},
    {"split": {"RS": [0.7, 0.2, 0.1]}, "group_by": "none"},
    {"split": {"LS": "test_only"}},
]


def train_loader(make: MakeConfig, **changes: Any) -> SequenceTrainDataLoader:
    config = make(**{"train_level": "sequence", "train_batch_size": 30, **changes})
    loader = data_preparation(config, SequentialDataset(config))[0]
    assert isinstance(loader, SequenceTrainDataLoader)
    return loader


def supervised_pairs(loader: Any) -> Counter[tuple[int, tuple[int, ...], int]]:
    """(user, items before, target) of every supervised position of an epoch."""
    pairs: Counter[tuple[int, tuple[int, ...], int]] = Counter()
    for batch in loader:
        items, targets = batch["item_id_list"], batch["pos_item_id_list"]
        for row, slot in targets.nonzero().tolist():
            before = tuple(items[row, : slot + 1].tolist())
            pairs[int(batch["user_id"][row]), before, int(targets[row, slot])] += 1
    return pairs


def prefix_pairs(dataset: Any, length: int) -> Counter[tuple[int, tuple[int, ...], int]]:
    rows = dataset[:]
    return Counter(
        (int(u), tuple(items[: int(n)].tolist())[-length:], int(target))
        for u, items, n, target in zip(
            rows["user_id"], rows["item_id_list"], rows["item_length"], rows["item_id"], strict=True
        )
    )


@pytest.mark.parametrize("split", SPLITS, ids=str)
@pytest.mark.parametrize("length", [1, 4, 50])
def test_targets_are_the_train_rows_each_once(
    made: MakeConfig, split: dict[str, Any], length: int
) -> None:
    loader = train_loader(made, MAX_ITEM_LIST_LENGTH=length, eval_args=leave_one_out(**split))
    least = -(-3 * length // 4)  # ceil(3L/4) items of context, where the history has them
    short: Counter[Any] = Counter()
    for (user, before, target), count in supervised_pairs(loader).items():
        short[user, before[-least:], target] += count
    expected: Counter[Any] = Counter()
    for (user, before, target), count in prefix_pairs(loader.dataset, length).items():
        expected[user, before[-least:], target] += count
    assert short == expected


def test_stride_one_gives_recboles_rows(made: MakeConfig) -> None:
    loader = train_loader(made, window_stride=1)
    assert supervised_pairs(loader) == prefix_pairs(loader.dataset, 4)


def test_a_full_stride_reads_no_item_twice(made: MakeConfig) -> None:
    loader = train_loader(made, window_stride="full")
    for batch in loader:
        assert torch.equal(batch["item_id_list"] != 0, batch["pos_item_id_list"] != 0)


def test_layout(made: MakeConfig) -> None:
    loader = train_loader(made, **BPR)
    for batch in loader:
        items, targets, length = (
            batch[f] for f in ("item_id_list", "pos_item_id_list", "item_length")
        )
        assert list(batch.columns) == [
            "user_id", "item_id_list", "item_length", "pos_item_id_list", "neg_item_id_list",
        ]  # fmt: skip
        assert items.shape == targets.shape == (len(batch), int(length.max()))
        real = torch.arange(items.shape[1]) < length[:, None]
        assert torch.equal(items != 0, real)
        assert not bool((targets != 0)[~real].any())
        # An input that directly follows another input is that input's target.
        both = (targets != 0)[:, :-1] & real[:, 1:]
        assert torch.equal(targets[:, :-1][both], items[:, 1:][both])
        check_negatives(targets, batch["neg_item_id_list"], loader.dataset.item_num)


def check_negatives(targets: Tensor, negatives: Tensor, n_items: int) -> None:
    assert negatives.shape == (*targets.shape, 3)
    supervised = targets != 0
    assert torch.equal((negatives != 0).all(-1), supervised)
    assert torch.equal((negatives != 0).any(-1), supervised)
    assert not bool((negatives == targets[..., None])[supervised].any())
    assert int(negatives.max()) < n_items


def test_negatives_of_a_row_are_for_its_target(made: MakeConfig) -> None:
    """A sampler that marks its draws shows that each position gets the draws made for it."""
    loader = train_loader(made, **BPR)

    class Marker:
        def sample_by_user_ids(self, users: Any, items: Any, num: int) -> Tensor:
            return torch.from_numpy(np.concatenate([1000 * j + items for j in range(1, num + 1)]))

    loader._sampler = Marker()
    for batch in loader:
        targets = batch["pos_item_id_list"][..., None]
        expected = (targets + 1000 * torch.arange(1, 4)) * (targets != 0)
        assert torch.equal(batch["neg_item_id_list"], expected)


def test_batch_size_counts_targets(made: MakeConfig) -> None:
    loader = train_loader(made, train_batch_size=30)
    total = len(loader.dataset)
    assert len(loader) == -(-total // 30)
    sizes = [int((b["pos_item_id_list"] != 0).sum()) for b in loader]
    assert sum(sizes) == total
    assert max(sizes) <= 30 + 4
    # With 3 negatives each, RecBole counts a target three times.
    assert len(train_loader(made, train_batch_size=90, **BPR)) == len(loader)


def test_epochs_are_reproducible_and_differ(made: MakeConfig) -> None:
    loaders = [train_loader(made), train_loader(made)]
    epochs = [[b["user_id"].tolist() for _ in range(2) for b in loader] for loader in loaders]
    assert epochs[0] == epochs[1]
    half = len(epochs[0]) // 2
    assert epochs[0][:half] != epochs[0][half:]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"window_stride": 5}, "window_stride.*MAX_ITEM_LIST_LENGTH .4., got 5"),
        ({"window_stride": 0}, "window_stride"),
        ({"transform": "crop_itemseq", "eta": 0.5}, "transform.*train_level: prefix"),
        ({"transform": "reorder_itemseq"}, "beta: transform: reorder_itemseq needs this share"),
        ({"transform": "mask_itemseq"}, "mask_ratio: transform: mask_itemseq needs this share"),
        ({**BPR, "train_neg_sample_args": {**BPR["train_neg_sample_args"], "dynamic": True}},  # type: ignore[dict-item]
         "dynamic"),
    ],
)  # fmt: skip
def test_what_it_cannot_do(made: MakeConfig, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        train_loader(made, **changes)


def test_a_model_of_masked_items_keeps_them() -> None:
    Config("BERT4Rec", "ml-100k")
    with pytest.raises(ValueError, match="transform: BERT4Rec learns masked items"):
        Config("BERT4Rec", "ml-100k", config_dict={"transform": "inverse_itemseq"})


@pytest.mark.parametrize("transform", ["mask_itemseq", "inverse_itemseq"])
def test_a_model_without_histories_has_none_to_change(transform: str) -> None:
    keys = {"transform": transform, "mask_ratio": 0.3}
    with pytest.raises(ValueError, match=f"transform: {transform} .* AlphaRec reads none"):
        Config("AlphaRec", "ml-100k", config_dict=keys)


def test_recboles_data_set_is_refused(made: MakeConfig) -> None:
    config = made(train_level="sequence")
    with pytest.raises(ValueError, match="train_level: prefix"):
        data_preparation(config, RecBoleDataset(config))


def test_labels_of_the_targets(made: MakeConfig) -> None:
    """Each target has its own label. With drawn negatives there are no labels."""
    labeled = {"threshold": {"rating": 3}, "numerical_features": ["weights"]}
    loader = train_loader(made, window_stride=1, **labeled)
    got: Counter[tuple[int, tuple[int, ...], int, float]] = Counter()
    for batch in loader:
        items, targets, labels = (
            batch[f] for f in ("item_id_list", "pos_item_id_list", "pos_label_list")
        )
        assert not bool(labels[targets == 0].any())
        for row, slot in targets.nonzero().tolist():
            before = tuple(items[row, : slot + 1].tolist())
            pair = int(batch["user_id"][row]), before, int(targets[row, slot])
            got[(*pair, float(labels[row, slot]))] += 1
    rows = loader.dataset[:]
    columns = (rows[f] for f in ("user_id", "item_id_list", "item_length", "item_id", "label"))
    assert got == Counter(
        (int(u), tuple(items[: int(n)].tolist()), int(target), float(label))
        for u, items, n, target, label in zip(*columns, strict=True)
    )
    assert {label for *_, label in got} == {0.0, 1.0}
    sampled = next(iter(train_loader(made, **labeled, **BPR)))
    assert "pos_label_list" not in sampled


def test_further_columns_of_any_shape(made: MakeConfig) -> None:
    config, fields = made(train_level="sequence"), ("timestamp", "rating", "tags", "weights")
    config.model_class = type("Reading", (config.model_class,), {"sequence_fields": fields})
    loader = data_preparation(config, SequentialDataset(config))[0]
    spans = list(zip(loader.windows.start, loader.windows.end, strict=True))
    batch = loader.collate_fn(torch.arange(len(spans)))
    for field in fields:
        for row, (start, end) in zip(batch[f"{field}_list"], spans, strict=True):
            assert torch.equal(row[: end - start], loader.source.columns[field][start:end])
            assert not row[end - start :].any()
