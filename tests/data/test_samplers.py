"""Vectorized samplers: RecBole's draws from RecBole's random stream."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from made_data import HAS_TS
from recbole.data.interaction import Interaction
from recbole.sampler import RepeatableSampler as RecBoleRepeatableSampler
from recbole.sampler import Sampler as RecBoleSampler

from recbole_llm.core.config import Config
from recbole_llm.data.create import create_dataset
from recbole_llm.data.loading.samplers import RepeatableSampler, Sampler
from recbole_llm.data.prepare import data_preparation
from recbole_llm.data.rows.training import training_interactions
from recbole_llm.testing import write_tiny_dataset

PHASES = ["train", "valid", "test"]


def dataset(users: list[int], items: list[int], n_users: int = 6, n_items: int = 9) -> Any:
    inter = Interaction({"u": torch.tensor(users), "i": torch.tensor(items)})
    return SimpleNamespace(
        inter_feat=inter, uid_field="u", iid_field="i", user_num=n_users, item_num=n_items,
        time_field=None,
    )  # fmt: skip


class TrainPopularity(RecBoleSampler):  # type: ignore[misc]
    """RecBole's sampler, but with popularity counted in training interactions."""

    def _get_candidates_list(self) -> list[int]:
        items = self.datasets[0].inter_feat["i"].numpy()
        users = self.datasets[0].inter_feat["u"].numpy()
        return list(items[np.argsort(users, kind="stable")])


class RepeatableTrainPopularity(RecBoleRepeatableSampler):  # type: ignore[misc]
    """RecBole's repeatable sampler, with popularity counted in training interactions."""

    def _get_candidates_list(self) -> list[int]:
        self.datasets = [self.dataset]
        return TrainPopularity._get_candidates_list(self)


@pytest.fixture
def splits() -> list[Any]:
    return [
        dataset([1, 1, 2, 3, 3, 3, 1], [1, 2, 3, 4, 5, 6, 2]),
        dataset([1, 2], [3, 7]),
        dataset([1, 3, 5], [4, 8, 8]),
    ]


def drawn(sampler: Any, users: list[int], items: list[int], num: int) -> list[int]:
    np.random.seed(5)
    result: list[int] = []
    for _ in range(4):
        batch = sampler.sample_by_user_ids(np.array(users), np.array(items), num)
        assert batch.dtype == torch.int64
        result += batch.tolist()
    return [*result, int(np.random.randint(1000))]  # shows the stream's position


@pytest.mark.parametrize("distribution", ["uniform", "popularity"])
@pytest.mark.parametrize("num", [1, 3])
@pytest.mark.parametrize("users", [[1, 2, 3, 3, 5, 1], [3, 3, 3], [2]])
@pytest.mark.parametrize(
    ("stock", "ours"),
    [(TrainPopularity, Sampler), (RepeatableTrainPopularity, RepeatableSampler)],
)
def test_same_draws(
    splits: list[Any], distribution: str, num: int, users: list[int], stock: type, ours: type
) -> None:
    source = splits if stock is TrainPopularity else splits[0]
    items = [2, 3, 4, 5, 6, 1][: len(users)]
    results = []
    for cls in (stock, ours):
        sampler = cls(PHASES, source, distribution, 0.5)
        results.append([drawn(sampler.set_phase(p), users, items, num) for p in PHASES])
    assert results[0] == results[1]


def test_used_items_are_recboles_sets(splits: list[Any]) -> None:
    stock, ours = RecBoleSampler(PHASES, splits), Sampler(PHASES, splits)
    for phase in PHASES:
        expected, used = stock.set_phase(phase).used_ids, ours.set_phase(phase).used_ids
        assert used.keys.tolist() == sorted(9 * u + i for u, s in enumerate(expected) for i in s)
        assert used.counts().tolist() == [len(s) for s in expected]


def test_user_of_every_item_is_refused_in_the_phases_that_draw_for_them() -> None:
    """The user has the last item only in the second split."""
    sampler = Sampler(["train", "valid"], [dataset([1] * 7, list(range(1, 8))), dataset([1], [8])])
    assert sampler.set_phase("train").sample_by_user_ids([1], [1], 3).tolist() == [8, 8, 8]
    with pytest.raises(ValueError, match="user_inter_num_interval"):
        sampler.set_phase("valid").check()
    sampler.set_phase("train").check()


@pytest.mark.parametrize("distribution", ["uniform", "popularity"])
def test_one_item_is_no_negative_of_itself(distribution: str, tmp_path: Path) -> None:
    rows = "".join(f"u{u}\ti0\t{t}\n" for u in range(4) for t in range(5))
    (tmp_path / "one").mkdir()
    (tmp_path / "one" / "one.inter").write_text(
        f"user_id:token\titem_id:token\ttimestamp:float\n{rows}"
    )
    sampling = {"distribution": distribution, "sample_num": 1}
    keys = {"data_path": str(tmp_path), "loss_type": "BPR", "train_neg_sample_args": sampling}
    config = Config("SASRec", "one", config_dict={**keys, "topk": 1, "valid_metric": "MRR@1"})
    with pytest.raises(ValueError, match="all negatives would be one item"):
        data_preparation(config, create_dataset(config))


def test_unknown_user_is_refused(splits: list[Any]) -> None:
    sampler = Sampler(PHASES, splits).set_phase("train")
    with pytest.raises(ValueError, match="user_id .6. not exist"):
        sampler.sample_by_user_ids(np.array([6]), np.array([1]), 1)


@pytest.mark.parametrize(("model", "repeatable"), [("BPR", False), ("BPR", True), ("SASRec", True)])
def test_held_out_interactions_are_not_popular(
    tmp_path: Path, model: str, repeatable: bool
) -> None:
    """Training has a b c of u1's a b c d e, and a c of u2's a c x y."""
    rows = [f"u1\t{item}\t{t}" for t, item in enumerate("abcde")]
    rows += [f"u2\t{item}\t{t}" for t, item in enumerate("acxy")]
    rows += [f"u3\t{item}\t{t}" for t, item in enumerate("bxdx")]
    (tmp_path / "pop").mkdir()
    header = "user_id:token\titem_id:token\ttimestamp:float"
    (tmp_path / "pop" / "pop.inter").write_text("\n".join([header, *rows]) + "\n")
    popular = {"distribution": "popularity", "sample_num": 1, "alpha": 1.0, "dynamic": False}
    args = {"split": {"LS": "valid_and_test"}, "order": "TO", "group_by": "user", "mode": "pop3"}
    config = Config(model, "pop", config_dict={
        "data_path": str(tmp_path), "train_neg_sample_args": popular, "eval_args": args,
        "repeatable": repeatable, "loss_type": "BPR", "train_level": "prefix",
        "load_col": {"inter": ["user_id", "item_id", "timestamp"]},
    })  # fmt: skip
    data = create_dataset(config)
    for loader in data_preparation(config, data):
        sampler = loader._sampler
        counts = np.bincount(sampler._get_candidates_list(), minlength=data.item_num)
        found = dict(zip(data.id2token("item_id", range(data.item_num)), counts, strict=True))
        assert found == {
            "[PAD]": 0, "a": 2, "b": 2, "c": 2, "d": 0, "e": 0, "x": 1, "y": 0,
        }  # fmt: skip
        assert not set("dey") & set(data.id2token("item_id", sampler.sampling(500)))


@pytest.mark.parametrize("cls", [Sampler, RepeatableSampler])
def test_another_power_of_popularity_leaves_the_first(cls: Any) -> None:
    """Item 1 has three interactions and item 2 has one; their squares are 9 and 1 of 10."""
    data = dataset([1, 2, 3, 4], [1, 1, 1, 2])
    built = data if cls is RepeatableSampler else [data] * 3
    flat = cls(PHASES, built, "popularity", 0.0)
    squares = flat.drawing("popularity", 2.0)
    np.random.seed(0)
    assert (squares.sampling(4000) == 1).mean() == pytest.approx(0.9, abs=0.02)
    assert (flat.sampling(4000) == 1).mean() == pytest.approx(0.5, abs=0.03)


def test_user_of_every_popular_item_is_refused() -> None:
    """Item 8 is in no training interaction, so drawing a negative for user 1 would never end."""
    data = [dataset([1, 2, 2], [1, 1, 2]), dataset([1], [2]), dataset([2], [8])]
    sampler = Sampler(PHASES, data, "popularity", 1.0)
    with pytest.raises(ValueError, match="user_inter_num_interval"):
        sampler.set_phase("valid").check()
    Sampler(PHASES, data, "uniform", 1.0).set_phase("valid").check()


@pytest.mark.parametrize("model", ["BPR", "Pop"])
def test_a_user_of_every_item_matters_to_no_full_ranking(model: str, tmp_path: Path) -> None:
    rows = [f"u0\ti{item}\t{item}" for item in range(12)]
    rows += [f"u{u}\ti{item}\t{item}" for u in range(1, 9) for item in range(5)]
    (tmp_path / "all").mkdir()
    header = "user_id:token\titem_id:token\ttimestamp:float"
    (tmp_path / "all" / "all.inter").write_text("\n".join([header, *rows]) + "\n")
    config = Config(model, "all", config_dict={
        "data_path": str(tmp_path), "eval_args": {"split": {"LS": "valid_and_test"}, "order": "TO"},
    })  # fmt: skip
    _, _, test = data_preparation(config, create_dataset(config))
    assert len(test.uid_list) == 9


@pytest.mark.parametrize(("split", "group"), [("TS", "user"), ("RS", "none"), ("LS", "user")])
def test_fixed_candidates_are_no_items_of_the_history(
    split: str, group: str, tmp_path: Path
) -> None:
    """Users come one after the other, so that some have no training row."""
    if split == "TS" and not HAS_TS:
        pytest.skip("RecBole 1.2.0 has no time-based split")
    rng = np.random.default_rng(0)
    own = {f"u{u}": [f"i{i}" for i in rng.permutation(40)[:8]] for u in range(60)}
    rows = [f"{u}\t{i}" for u, items in own.items() for i in items]
    (tmp_path / "late").mkdir()
    header = "user_id:token\titem_id:token\ttimestamp:float"
    lines = [header, *(f"{row}\t{t}" for t, row in enumerate(rows))]
    (tmp_path / "late" / "late.inter").write_text("\n".join(lines) + "\n")
    ratios = "valid_and_test" if split == "LS" else [0.8, 0.1, 0.1]
    args = {"split": {split: ratios}, "order": "TO", "group_by": group, "mode": "uni20"}
    config = Config("SASRec", "late", config_dict={"data_path": str(tmp_path), "eval_args": args})
    data = create_dataset(config)
    _, _, test = data_preparation(config, data)
    for rows_, *_ in test:
        negative = rows_["label"] == 0
        users = data.id2token("user_id", rows_["user_id"][negative])
        items = data.id2token("item_id", rows_["item_id"][negative])
        assert not any(item in own[user] for user, item in zip(users, items, strict=True))


def test_a_users_whole_training_history_may_be_excluded(tmp_path: Path) -> None:
    write_tiny_dataset(tmp_path)
    keys = {"data_path": str(tmp_path), "loss_type": "BPR", "train_level": "prefix"}
    seen = {}
    for excludes in ("target", "history"):
        config = Config("SASRec", "tiny", config_dict={**keys, "negatives_exclude": excludes})
        train, _, _ = data_preparation(config, create_dataset(config))
        users, items = training_interactions(train.dataset)
        own = set(zip(users.tolist(), items.tolist(), strict=True))
        drawn = train._sampler.sample_by_user_ids(users, items, 20).tolist()
        pairs = list(zip(np.tile(users, 20).tolist(), drawn, strict=True))
        assert not set(drawn) & {0}
        assert all(n != i for n, i in zip(drawn, np.tile(items, 20).tolist(), strict=True))
        seen[excludes] = sum(pair in own for pair in pairs)
    assert seen["history"] == 0 < seen["target"]
