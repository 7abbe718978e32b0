"""Order by the file's exact times, which RecBole's float32 rounds to about a minute."""

from __future__ import annotations

import tempfile
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from made_data import HAS_TS, RecBoleDataset, RecBoleGeneral, assert_same_rows, leave_one_out
from recbole.data.interaction import Interaction

from recbole_llm.core.config import Config
from recbole_llm.data.create import create_dataset
from recbole_llm.data.prepare import data_preparation
from recbole_llm.data.rows.interaction import order_key
from recbole_llm.data.rows.training import training_interactions
from recbole_llm.steps import build_model, load_data
from recbole_llm.tasks.recommend import recommend
from recbole_llm.testing import write_tiny_dataset

NOW = 893_286_638  # a time in ml-100k, in seconds; float32 holds only multiples of 64
TIE = NOW - NOW % 64  # float32 rounds times within half a minute to it
Event = tuple[str, str, int]


def write_events(folder: Path, events: list[Event]) -> None:
    lines = ["user_id:token\titem_id:token\ttimestamp:float"]
    lines += [f"{user}\t{item}\t{NOW + second}" for user, item, second in events]
    (folder / "now").mkdir(exist_ok=True)
    (folder / "now" / "now.inter").write_text("\n".join(lines) + "\n")


def events_config(folder: Path, model: str, **changes: Any) -> Config:
    settings: dict[str, Any] = {
        "data_path": str(folder), "eval_args": leave_one_out(), "train_level": "prefix",
        "load_col": {"inter": ["user_id", "item_id", "timestamp"]}, "numerical_features": [],
        "metrics": ["Recall"], "valid_metric": "Recall@10",
    }  # fmt: skip
    return Config(model, "now", config_dict={**settings, **changes})


def held_out(config: Config) -> dict[str, tuple[str, str]]:
    """Each user's validation and test item, as tokens."""
    parts = create_dataset(config).build()[1:]
    pairs = [
        dict(zip(part.id2token("user_id", part.inter_feat["user_id"].numpy()),
                 part.id2token("item_id", part.inter_feat["item_id"].numpy()), strict=True))
        for part in parts
    ]  # fmt: skip
    return {user: (pairs[0][user], pairs[1][user]) for user in pairs[0]}


BACKWARDS: list[Event] = [
    *(("u1", item, 9 - i) for i, item in enumerate("abcd")),
    *(("u2", item, 5 - i) for i, item in enumerate("dcba")),
]


@pytest.mark.parametrize("model", ["SASRec", "BPR"])
def test_a_history_written_backwards_is_read_forwards(tmp_path: Path, model: str) -> None:
    write_events(tmp_path, BACKWARDS)
    config = events_config(tmp_path, model)
    assert held_out(config) == {"u1": ("b", "a"), "u2": ("c", "d")}
    recboles = events_config(tmp_path, model, exact_times=False)
    assert held_out(recboles) == {"u1": ("c", "d"), "u2": ("b", "a")}


def test_a_column_may_be_called_exact(tmp_path: Path) -> None:
    """RecBole's rows have their columns as attributes, which ours must not confuse with methods."""
    write_events(tmp_path, BACKWARDS)
    file = tmp_path / "now" / "now.inter"
    header, *rows = file.read_text().splitlines()
    file.write_text("\n".join([f"{header}\texact:float", *(f"{row}\t1" for row in rows)]) + "\n")
    config = events_config(
        tmp_path, "SASRec", load_col={"inter": ["user_id", "item_id", "timestamp", "exact"]}
    )
    assert held_out(config) == {"u1": ("b", "a"), "u2": ("c", "d")}


def test_times_that_are_set_are_those_that_rows_are_sorted_by(tmp_path: Path) -> None:
    write_events(tmp_path, BACKWARDS)
    inter = create_dataset(events_config(tmp_path, "SASRec")).build()[0].inter_feat
    inter["timestamp"] = -inter.exact("timestamp").argsort().argsort().float()
    inter.sort("timestamp")
    assert inter["timestamp"].tolist() == [-1, 0]


def test_pairs_are_ordered_by_their_first_number() -> None:
    pairs = Interaction({"time": torch.tensor([[3.0, 1.0], [2.0, 1.0]])})
    assert order_key(pairs, "time").tolist() == [3, 2]


@pytest.mark.parametrize("model", ["SASRec", "BPR"])
@pytest.mark.parametrize("keep", ["first", "last"])
def test_rows_of_one_time_stay_in_order_without_repeated_ones(
    tmp_path: Path, model: str, keep: str
) -> None:
    """RecBole's sort reorders ties among more than 16 rows, depending on the CPU."""
    rows = [(f"u{n % 3}", f"i{n % 200}", n // 50) for n in range(600)]
    write_events(tmp_path, [*rows, ("u0", "i0", 0)])
    expected = {"u0": ("i194", "i197"), "u1": ("i195", "i198"), "u2": ("i196", "i199")}
    for extra in {}, {"rm_dup_inter": keep}:
        assert held_out(events_config(tmp_path, model, **extra)) == expected


def test_recboles_own_sequential_data_set_follows(tmp_path: Path) -> None:
    """DIEN's data set class copies the histories itself."""
    write_events(tmp_path, BACKWARDS)
    file = tmp_path / "now" / "now.inter"
    header, *rows = file.read_text().splitlines()
    file.write_text("\n".join([f"{header}\tlabel:float", *(f"{row}\t1" for row in rows)]) + "\n")
    plain = {"load_col": {"inter": ["user_id", "item_id", "timestamp", "label"]}}
    assert held_out(events_config(tmp_path, "DIEN", **plain)) == {
        "u1": ("b", "a"),
        "u2": ("c", "d"),
    }


EVENTS = st.lists(
    st.tuples(st.sampled_from(["u1", "u2", "u3"]), st.integers(0, 150)), min_size=12, max_size=30
)
SPLITS = [
    ({"LS": "valid_and_test"}, "user"),
    ({"RS": [0.6, 0.2, 0.2]}, "user"),
    ({"RS": [0.6, 0.2, 0.2]}, "none"),
    ({"TS": [0.6, 0.2, 0.2]}, "user"),
]


@settings(max_examples=30)
@given(events=EVENTS, split=st.sampled_from(SPLITS), model=st.sampled_from(["SASRec", "BPR"]))
def test_no_part_is_later_than_the_next(
    events: list[tuple[str, int]], split: tuple[dict[str, Any], str], model: str
) -> None:
    if "TS" in split[0] and not HAS_TS:
        return  # RecBole 1.2.0
    rows = [(user, f"i{n}", second) for n, (user, second) in enumerate(events)]
    times = {item: second for _, item, second in rows}
    with tempfile.TemporaryDirectory() as folder:
        write_events(Path(folder), rows)
        args = leave_one_out(split=split[0], group_by=split[1])
        parts = create_dataset(events_config(Path(folder), model, eval_args=args)).build()
    latest: dict[str, int] = defaultdict(lambda: -1)
    for number, part in enumerate(parts):
        items = part.id2token("item_id", part.inter_feat["item_id"].numpy())
        users = part.id2token("user_id", part.inter_feat["user_id"].numpy())
        whole = split[1] == "none" or ("TS" in split[0] and number == 2)
        keys = ["all"] * len(items) if whole else users
        floor = {"all": max(latest.values(), default=-1)} if whole else dict(latest)
        for key, item in zip(keys, items, strict=True):
            assert times[item] >= floor.get(key, -1)
        for user, item in zip(users, items, strict=True):
            latest[user] = max(latest[user], times[item])


@pytest.mark.parametrize("model", ["SASRec", "BPR"])
@pytest.mark.parametrize("order", ["TO", "RO"])
def test_training_interactions_are_in_order(tmp_path: Path, model: str, order: str) -> None:
    if (model, order) == ("SASRec", "RO"):
        return  # RecBole refuses it
    write_events(tmp_path, BACKWARDS)
    args = leave_one_out(split={"RS": [1, 0, 0]}, order=order)
    torch.manual_seed(1)
    train = create_dataset(events_config(tmp_path, model, eval_args=args)).build()[0]
    items = train.id2token("item_id", training_interactions(train)[1])
    assert "".join(items) == "dcbaabcd"


@pytest.mark.parametrize("model", ["SASRec", "BPR", "DeepFM"])
@pytest.mark.parametrize("numerical", [[], ["timestamp"]])
def test_models_read_recboles_numbers(tmp_path: Path, model: str, numerical: list[str]) -> None:
    """The float32 columns equal those of RecBole's own classes, which keep ties in order here."""
    rows = [(f"u{n % 3}", f"i{n}", n) for n in range(40)]
    write_events(tmp_path, rows)
    changes: dict[str, Any] = {"numerical_features": numerical, "eval_memory_mib": 0}
    if model == "DeepFM":
        changes["train_neg_sample_args"] = {"distribution": "uniform", "sample_num": 1}
        changes["eval_args"] = leave_one_out(mode="uni3")  # it reads times, which items lack
    config = events_config(tmp_path, model, **changes)
    stock = RecBoleDataset if model == "SASRec" else RecBoleGeneral
    ours = data_preparation(config, create_dataset(config))
    for loader, part in zip(ours, stock(config).build(), strict=True):
        assert_same_rows(part[:], loader.dataset[:])
        index = np.arange(len(part))[::2]
        assert_same_rows(part[index], loader.dataset[index])
    batch = next(iter(ours[0]))
    assert all(column.dtype != torch.float64 for column in batch.interaction.values())


@pytest.mark.parametrize("exact", [True, False])
def test_recommendations_see_the_order_of_training(tmp_path: Path, exact: bool) -> None:
    write_tiny_dataset(tmp_path)
    file = tmp_path / "tiny" / "tiny.inter"
    header, *lines = file.read_text().splitlines()
    rows = [line.split("\t") for line in lines]
    late = [[*row[:3], str(TIE + 1010 - int(row[3]))] for row in rows]  # backwards
    file.write_text("\n".join([header, *map("\t".join, late)]) + "\n")
    # The same events, in the order that a model is to see: forwards, or as in the file.
    (tmp_path / "same").mkdir()
    plain = [[*row[:3], str(n)] for n, row in enumerate(reversed(rows) if exact else rows)]
    same = "\n".join([header, *map("\t".join, plain)])
    (tmp_path / "same" / "same.inter").write_text(same + "\n")
    found = []
    for name in ("tiny", "same"):
        config = Config("SASRec", name, config_dict={
            "data_path": str(tmp_path), "exact_times": exact, "MAX_ITEM_LIST_LENGTH": 8,
        })  # fmt: skip
        dataset, train, _, _ = load_data(config)
        torch.manual_seed(0)
        model = build_model(config, train.dataset).eval()
        names = dataset.field2id_token["item_id"]
        with torch.no_grad():  # an item's vector depends on its token, not on its id
            for number, token in enumerate(names):
                torch.manual_seed(int(token[1:]) if number else 999)
                model.item_embedding.weight[number] = torch.randn(model.hidden_size)
        found.append(recommend((config, model, dataset), users="u3", k=5))
    assert list(found[0]["item"]) == list(found[1]["item"])


def test_ml_100k_holds_out_the_latest() -> None:
    """With RecBole's float32, three users have a test item that is older than a training item."""
    older = {}
    for exact in (True, False):
        config = Config("BPR", "ml-100k", config_dict={
            "eval_args": leave_one_out(), "exact_times": exact,
            "load_col": {"inter": ["user_id", "item_id", "timestamp"]},
        })  # fmt: skip
        dataset = create_dataset(config)
        frame = dataset.inter_feat
        keys = frame["user_id"].to_numpy() * 10_000 + frame["item_id"].to_numpy()
        order = np.argsort(keys)
        train, _, test = dataset.build()

        def times(part: Any, order: Any = order, keys: Any = keys, frame: Any = frame) -> Any:
            inter = part.inter_feat
            wanted = inter["user_id"].numpy() * 10_000 + inter["item_id"].numpy()
            return frame["timestamp"].to_numpy()[order[np.searchsorted(keys[order], wanted)]]

        latest = np.zeros(dataset.user_num)
        np.maximum.at(latest, train.inter_feat["user_id"].numpy(), times(train))
        older[exact] = int((times(test) < latest[test.inter_feat["user_id"].numpy()]).sum())
    assert older == {True: 0, False: 3}


def test_a_split_by_time_is_not_of_shuffled_interactions(tmp_path: Path) -> None:
    write_events(tmp_path, BACKWARDS)
    args = leave_one_out(split={"TS": [0.6, 0.2, 0.2]}, order="RO")
    with pytest.raises(ValueError, match="split TS needs order: TO"):
        create_dataset(events_config(tmp_path, "BPR", eval_args=args))


def test_histories_are_not_shuffled(tmp_path: Path) -> None:
    write_events(tmp_path, BACKWARDS)
    args = leave_one_out(order="RO")
    with pytest.raises(ValueError, match="RO shuffles .* SASRec reads in order .* set order: TO"):
        create_dataset(events_config(tmp_path, "SASRec", eval_args=args))


def test_a_split_that_recbole_lacks_is_refused(tmp_path: Path) -> None:
    if HAS_TS:
        pytest.skip("RecBole 1.2.1 has it")
    write_events(tmp_path, BACKWARDS)
    args = leave_one_out(split={"TS": [0.6, 0.2, 0.2]})
    with pytest.raises(ValueError, match="split TS came with RecBole 1.2.1"):
        create_dataset(events_config(tmp_path, "BPR", eval_args=args))


def test_buckets_of_times_order_nothing(tmp_path: Path) -> None:
    write_events(tmp_path, BACKWARDS)
    buckets = {"numerical_features": ["timestamp"],
               "discretization": {"timestamp": {"method": "ED", "bucket": 3}}}  # fmt: skip
    with pytest.raises(ValueError, match="discretization: 'timestamp' is TIME_FIELD"):
        create_dataset(events_config(tmp_path, "SASRec", **buckets))
