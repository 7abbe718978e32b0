"""Interactions on disk give the same bits as in memory, and incomplete files are not read."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier
from typing import Any

import numpy as np
import pytest
import recbole
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from made_data import HAS_TS, assert_same_batches, assert_same_rows

from recbole_llm.core.config import Config
from recbole_llm.data.create import create_dataset
from recbole_llm.data.datasets.disk import DiskDataset, column_folder
from recbole_llm.data.datasets.grouped_splits import leave_one_out_ends
from recbole_llm.data.prepare import data_preparation
from recbole_llm.data.reading import inter_blocks, sort_on_disk
from recbole_llm.data.reading.column_folder import ColumnFolder
from recbole_llm.data.reading.inter_blocks import InteractionFile
from recbole_llm.data.rows.split import positions
from recbole_llm.data.rows.target_ranges import TargetRanges
from recbole_llm.data.rows.training import (
    item_counts,
    training_digest,
    training_interactions,
    user_counts,
)
from recbole_llm.quick_start import run_recbole_llm
from recbole_llm.tasks.recommend import Recommender

ML_100K = Path(recbole.__file__).parent / "dataset_example" / "ml-100k" / "ml-100k.inter"
HEADER = "user_id:token\titem_id:token\ttimestamp:float"
SAMPLED = {
    "loss_type": "SSM",
    "train_neg_sample_args": {"distribution": "uniform", "sample_num": 3},
}
Make = Callable[..., Config]


def write(folder: Path, lines: list[str], name: str = "made") -> Path:
    file = folder / name / f"{name}.inter"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("\n".join([HEADER, *lines]) + "\n", encoding="utf-8")
    return file


@pytest.fixture
def make(tmp_path: Path) -> Make:
    """Configurations over a file with users of one or more interactions, ties and strange ids."""
    rng = np.random.default_rng(3)
    users = rng.integers(0, 40, 600) ** 2 % 37
    # Many of a user's times are equal, and float32 can tell few of them apart.
    times = 1.5e9 + users * 7 % 13 * 5 + rng.choice([0, 0.125, 1, 2, 8, -3e9], 600)
    names = ["NA", "é", "None", "ü 1", *(f"u{n}" for n in range(40))]
    lines = [f"{names[u]}\ti{rng.zipf(1.3) % 50}\t{t}" for u, t in zip(users, times, strict=True)]
    write(tmp_path, [*lines, "alone\ti1\t5", "two\ti1\t5", "two\tonly\t5"])
    return lambda **changes: Config(
        "SASRec",
        "made",
        config_dict={
            "data_path": str(tmp_path),
            "MAX_ITEM_LIST_LENGTH": 6,
            "interactions": "disk",
            **SAMPLED,
            **changes,
        },
    )


def both(make: Make, **changes: Any) -> list[Any]:
    """Data set and loaders from memory, then from disk."""
    found = []
    for where in ("memory", "disk"):
        config = make(interactions=where, **changes)
        dataset = create_dataset(config)
        np.random.seed(0)
        found.append((dataset, *data_preparation(config, dataset)))
    return found


@pytest.mark.parametrize("level", ["sequence", "prefix"])
@pytest.mark.parametrize(
    "split",
    [
        {"LS": "valid_and_test"},
        {"LS": "valid_only"},
        {"LS": "test_only"},
        {"RS": [6, 2, 2]},
        {"TS": [8, 1, 1]},
    ],
    ids=str,
)
def test_batches_are_those_of_memory(make: Make, split: dict[str, Any], level: str) -> None:
    if "TS" in split and not HAS_TS:
        pytest.skip("RecBole 1.2.0 has no split by time")
    args = {"split": split, "order": "TO", "group_by": "user", "mode": "full"}
    memory, disk = both(make, train_level=level, eval_args=args)
    assert isinstance(disk[0], DiskDataset)
    for field in ("user_id", "item_id"):
        assert disk[0].field2id_token[field].tolist() == memory[0].field2id_token[field].tolist()
        assert disk[0].field2token_id[field] == memory[0].field2token_id[field]
    for want, have in zip(memory[1:], disk[1:], strict=True):
        torch.manual_seed(1)
        np.random.seed(1)
        expected = list(want)
        torch.manual_seed(1)
        np.random.seed(1)
        assert_same_batches(expected, have)


def test_rows_of_every_split_are_those_of_memory(make: Make) -> None:
    memory, disk = both(make)
    for want, have in zip(memory[1:], disk[1:], strict=True):
        rows = slice(0, len(want.dataset))
        assert_same_rows(want.dataset[rows], have.dataset[rows])


def test_what_training_knows(make: Make) -> None:
    memory, disk = (loaders[1].dataset for loaders in both(make))
    assert training_digest(disk) == training_digest(memory)
    for counts in (item_counts, user_counts):
        assert counts(disk).tolist() == counts(memory).tolist()
    whole = training_interactions(disk)
    assert [part.tolist() for part in whole] == [
        part.tolist() for part in training_interactions(memory)
    ]
    assert training_digest(disk) == training_digest(memory)  # again, after its rows were made


def test_the_engine_makes_no_rows(make: Make) -> None:
    """Training, counting and printing take memory for users, but none for interactions."""
    train = both(make)[1][1]
    list(train)
    training_digest(train.dataset)
    item_counts(train.dataset)
    str(train.dataset)
    assert train.dataset.inter_feat.interaction._rows is None


@pytest.mark.parametrize("model", ["SASRec", "GRU4Rec"])
def test_runs_end_with_the_numbers_of_memory(tmp_path: Path, model: str) -> None:
    folder = tmp_path / "data" / "copied"
    folder.mkdir(parents=True)
    shutil.copy(ML_100K, folder / "copied.inter")
    results = []
    for where in ("memory", "disk"):
        own = {"data_path": str(folder.parent), "interactions": where, "item_table": "sparse"}
        small = {"hidden_size": 8, "inner_size": 8, "n_layers": 1, "n_heads": 1, "num_layers": 1}
        small |= {"embedding_size": 8, "MAX_ITEM_LIST_LENGTH": 20, "window_stride": "full"}
        config = {**own, **small, **SAMPLED, "epochs": 1, "show_progress": False, "metrics": "MRR"}
        result = run_recbole_llm(model, "copied", config_dict=config)
        saved = torch.load(result.pop("checkpoint"), weights_only=True)
        results.append((result, saved["state_dict"], saved["trained_on"]))
    (result, state, digest), (other, other_state, other_digest) = results
    assert (result, digest) == (other, other_digest)
    assert all(torch.equal(state[name], other_state[name]) for name in state)


def test_recommendations_are_those_of_memory(make: Make) -> None:
    trained = run_recbole_llm(
        "SASRec", "made", config_dict={**make().external_config_dict, "epochs": 1}
    )
    memory, disk = (
        Recommender.of(trained["checkpoint"], config_dict={"interactions": where, "data_path": "."})
        for where in ("memory", "disk")
    )
    assert isinstance(disk.dataset, DiskDataset)
    for asked in ({"users": "all"}, {"items": ["i1", "i7"]}):
        assert disk.recommend(**asked, k=5).equals(memory.recommend(**asked, k=5))
    kept = [one.recommend(["NA", "two"], mask_history=False) for one in (memory, disk)]
    assert kept[0].equals(kept[1])
    for user in memory.find_users(None):
        assert (
            disk.scorer.ordered_history(user).tolist()
            == memory.scorer.ordered_history(user).tolist()
        )
    with Path("made/made.inter").open("a", encoding="utf-8") as file:
        file.write("new\ti1\t5\n")
    with pytest.raises(ValueError, match="user_id.*cannot be matched.*interactions: memory"):
        Recommender.of(trained["checkpoint"], config_dict={"data_path": "."})


def test_a_folder_is_kept_until_the_file_changes(
    make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = []
    real = sort_on_disk.sort_on_disk
    monkeypatch.setattr(
        "recbole_llm.data.datasets.disk.sort_on_disk",
        lambda *args: made.append(args) or real(*args),
    )
    file = tmp_path / "made" / "made.inter"
    create_dataset(make())
    create_dataset(make())
    assert len(made) == 1
    os.utime(file, ns=(1, 1))  # another time, the same content
    create_dataset(make())
    assert len(made) == 1
    text = file.read_text(encoding="utf-8")
    file.write_text(text.replace("two\tonly", "two\tmore"), encoding="utf-8")  # as long as before
    create_dataset(make())
    assert len(made) == 2
    create_dataset(make(ITEM_ID_FIELD="user_id", USER_ID_FIELD="item_id"))
    assert len(made) == 3
    for name in ("item", "user_lengths"):
        (file.with_suffix(".sorted") / name).unlink()
        create_dataset(make(ITEM_ID_FIELD="user_id", USER_ID_FIELD="item_id"))
    assert len(made) == 5


@pytest.mark.parametrize("name", ["starts", "item_utf8", "item_lengths", "position"])
def test_a_file_that_was_cut_short_is_made_anew(make: Make, tmp_path: Path, name: str) -> None:
    users = create_dataset(make()).build()[0].inter_feat.interaction["user_id"].tolist()
    file = tmp_path / "made" / "made.sorted" / name
    content = file.read_bytes()
    file.write_bytes(content[: len(content) // 16 * 8])  # half of it, in whole numbers
    again = create_dataset(make())
    assert file.read_bytes() == content
    assert again.build()[0].inter_feat.interaction["user_id"].tolist() == users


def test_a_file_beside_the_columns_is_no_damage(make: Make, tmp_path: Path) -> None:
    create_dataset(make())
    file = tmp_path / "made" / "made.sorted" / ".DS_Store"
    file.write_bytes(b"x")
    create_dataset(make())
    assert file.exists()


def test_runs_that_begin_together_sort_once(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    made, real, together = [], sort_on_disk.sort_on_disk, Barrier(2)

    def slow(*args: Any) -> ColumnFolder:
        made.append(args)
        time.sleep(0.5)
        return real(*args)

    def load() -> None:
        config = make()
        together.wait()
        column_folder(config)

    monkeypatch.setattr("recbole_llm.data.datasets.disk.sort_on_disk", slow)
    with ThreadPoolExecutor(2) as pool:
        for one in [pool.submit(load), pool.submit(load)]:
            one.result()
    assert len(made) == 1


def shown(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if not path.name.startswith("."))


def test_an_error_leaves_what_was_there(make: Make, tmp_path: Path) -> None:
    create_dataset(make())
    folder = tmp_path / "made" / "made.sorted"
    before = sorted((file.name, file.read_bytes()) for file in folder.iterdir())
    with (tmp_path / "made" / "made.inter").open("a", encoding="utf-8") as file:
        file.write("u1\ti1\tsoon\n")
    with pytest.raises(ValueError, match="line 605.*'soon' in timestamp:float is not a number"):
        create_dataset(make())
    assert sorted((file.name, file.read_bytes()) for file in folder.iterdir()) == before
    assert shown(folder.parent) == ["made.inter", "made.sorted"]


def test_a_killed_preparation_is_not_taken_for_whole(make: Make, tmp_path: Path) -> None:
    """A preparation killed while it writes leaves a part, which the next preparation removes."""
    script = (
        "import os, sys\n"
        "from pathlib import Path\n"
        "from recbole_llm.data.reading import sort_on_disk\n"
        "from recbole_llm.data.reading.inter_blocks import InteractionFile\n"
        "sort_on_disk._write_rows = lambda *args: os._exit(9)\n"
        "file = Path(sys.argv[1])\n"
        "source = InteractionFile(file, 'user_id', 'item_id', 'timestamp')\n"
        "sort_on_disk.sort_on_disk(source, file.with_suffix('.sorted'), 256)\n"
    )
    file = tmp_path / "made" / "made.inter"
    make()
    done = subprocess.run([sys.executable, "-c", script, str(file)], check=False)
    assert done.returncode == 9
    left = {path.name for path in file.parent.iterdir()} - {"made.inter"}
    assert len(left) == 1 and left.pop().endswith("recbole-llm-part")
    create_dataset(make())
    assert shown(file.parent) == ["made.inter", "made.sorted"]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("u1\ti1", "line 4: 2 values, the header has 3 fields"),
        ("\ti1\t3", "line 4: user_id is empty"),
        ("u1\t[PAD]\t3", "line 4: item_id is \\[PAD\\]"),
        ("u1\ti1\t", "line 4: timestamp:float .TIME_FIELD. is missing"),
        ("u1\ti1\tNaN", "line 4: timestamp:float .TIME_FIELD. is missing"),
        ("u1\ti1\t2020-01-01", "line 4: '2020-01-01' in timestamp:float is not a number"),
        ("u1\ti1\tinf", "line 4: inf in timestamp:float is infinite"),
        ('u1\t"i1\t3', "line 4 opens a quote at 'i1"),
    ],
)
def test_errors_are_those_of_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, line: str, message: str
) -> None:
    monkeypatch.setattr(inter_blocks, "BLOCK", 1)  # a block for each line
    write(tmp_path, ["u1\ti1\t1", "u2\ti2\t2", line, "u3\ti3\t3"])
    said = []
    for where in ("memory", "disk"):
        config = {"data_path": str(tmp_path), "interactions": where, **SAMPLED}
        with pytest.raises(ValueError, match=message) as error:
            create_dataset(Config("SASRec", "made", config_dict=config))
        said.append(str(error.value))
    assert said[0] == said[1]


TIMES = st.sampled_from(["1", "-0", "1e3", "1_0", " 7", "0.1", "16777217"])
WORDS = st.text(st.sampled_from("aé\"' ,;#1\r"), min_size=1, max_size=4)
QUOTED = st.text(st.sampled_from('aé"\n '), min_size=1, max_size=6).map(
    lambda word: '"' + word.replace('"', '""') + '"'
)


def test_lines_that_end_by_carriage_returns_alone_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.inter"
    path.write_bytes(f"{HEADER}\ru\ti\t1\r".encode())
    source = InteractionFile(path, "user_id", "item_id", "timestamp")
    wide = InteractionFile(path, "user_id", "item_id", "timestamp", encoding="utf16")
    with pytest.raises(ValueError, match="encoding: utf16 cannot be read in parts; save"):
        list(wide.blocks(hashlib.sha256()))
    with pytest.raises(ValueError, match="carriage returns alone, which cannot be read in parts"):
        list(source.blocks(hashlib.sha256()))


@given(
    rows=st.lists(st.tuples(WORDS | QUOTED, WORDS | QUOTED, TIMES), min_size=1, max_size=12),
    size=st.integers(1, 80),
    ending=st.sampled_from(["\n", "\r\n"]),
    closed=st.booleans(),
)
@example(rows=[("a\r", "b", "1")], size=1, ending="\n", closed=False)
@settings(max_examples=150)
def test_blocks_read_what_a_table_does(
    tmp_path_factory: pytest.TempPathFactory,
    rows: list[tuple[str, str, str]],
    size: int,
    ending: str,
    closed: bool,
) -> None:
    """Wherever blocks cut the file, they give the whole file's values, or both are refused."""
    path = tmp_path_factory.mktemp("file") / "a.inter"
    lines = ["\t".join(row) for row in rows]
    path.write_bytes((ending.join([HEADER, *lines]) + ending * closed).encode("utf-8"))
    source = InteractionFile(path, "user_id", "item_id", "timestamp")

    def read(at_once: int) -> Any:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(inter_blocks, "BLOCK", at_once)
            digest = hashlib.sha256()
            try:
                tables = list(source.blocks(digest))
            except ValueError as error:
                return str(error)
        assert digest.digest() == hashlib.sha256(path.read_bytes()).digest()
        return [[v for t in tables for v in t[name].to_pylist()] for name in inter_blocks.NAMES]

    def whole() -> Any:
        try:
            table = inter_blocks.Table.read(path)
            own = (table.ids("user_id"), table.ids("item_id"), table.times("timestamp"))
        except ValueError as error:
            return str(error)
        return [values.tolist() for values in own]

    expected = whole()
    if not isinstance(expected, str):  # two refusals may name different lines
        assert read(2**20) == expected
    found = read(size)
    refused = isinstance(found, str) and isinstance(expected, str)
    assert found == expected or refused


@pytest.mark.parametrize(
    ("changes", "key"),
    [
        ({"user_inter_num_interval": "[5,inf)"}, "user_inter_num_interval"),
        ({"rm_dup_inter": "first"}, "rm_dup_inter"),
        ({"exact_times": False}, "exact_times"),
        ({"load_col": None}, "load_col"),
        ({"load_col": {"inter": ["user_id", "item_id", "timestamp", "shop"]}}, "load_col"),
        ({"load_col": {"inter": ["user_id"], "item": ["item_id"]}}, "load_col"),
        ({"item_catalogue": "item_file"}, "item_catalogue"),
        ({"MAX_ITEM_LIST_LENGTH": 70000}, "MAX_ITEM_LIST_LENGTH"),
    ],
)
def test_what_is_not_there_is_refused(make: Make, changes: dict[str, Any], key: str) -> None:
    with pytest.raises(ValueError, match=f"^{key}.*interactions: (disk|memory)"):
        make(**changes)


def test_a_model_of_another_kind_is_refused(make: Make, tmp_path: Path) -> None:
    config = {"data_path": str(tmp_path), "interactions": "disk"}
    with pytest.raises(ValueError, match="interactions: disk is for sequential models.*BPR"):
        create_dataset(Config("BPR", "made", config_dict=config))


def test_runs_by_hand() -> None:
    # Users with the interactions 0…3, 4…5 and 6…8; the last user comes first. Each user's last two
    # targets are held out, but one target always stays in training.
    begin, low, high = np.array([0, 4, 6]), np.array([1, 5, 7]), np.array([3, 5, 8])
    targets = TargetRanges(begin, low, high, np.array([2, 1, 0]))
    assert targets.rows().tolist() == [7, 8, 5, 1, 2, 3]
    train, valid, test = targets.cut(leave_one_out_ends(targets.sizes, 2))
    assert [part.rows().tolist() for part in (train, valid, test)] == [[7, 5, 1], [2], [8, 3]]


def test_positions_over_batches() -> None:
    before = np.zeros(4, np.int64)
    one = positions(np.array([1, 1, 2]), before)
    two = positions(np.array([2, 2, 3]), before)
    assert (one.tolist(), two.tolist(), before.tolist()) == ([0, 1, 0], [1, 2, 0], [0, 2, 3, 1])


def test_the_folder_says_what_it_is(make: Make, tmp_path: Path) -> None:
    create_dataset(make())
    folder = tmp_path / "made" / "made.sorted"
    about = json.loads((folder / "about.json").read_text(encoding="utf-8"))
    assert about["interactions"] == 603
    (folder / "about.json").write_text("{", encoding="utf-8")
    source = InteractionFile(folder.parent / "made.inter", "user_id", "item_id", "timestamp")
    assert ColumnFolder.of(folder, source) is None
