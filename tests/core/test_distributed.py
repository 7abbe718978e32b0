"""How several processes share work, and how they end."""

from __future__ import annotations

import random
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from recbole_llm.core.config import Config
from recbole_llm.core.processes import distributed, randomness, torchrun
from recbole_llm.data.create import create_dataset
from recbole_llm.data.loading.loaders import own_rows
from recbole_llm.data.prepare import data_preparation

Stand = Callable[[int, int], None]


@pytest.fixture
def stand(monkeypatch: pytest.MonkeyPatch) -> Stand:
    """``stand(rank, size)`` makes this process take itself for that rank of `size` processes."""
    return lambda rank, size: monkeypatch.setattr(
        distributed, "_here", distributed.ProcessRank(rank, rank, size)
    )


def test_parts_of_a_batch_are_all_of_it(stand: Stand) -> None:
    parts = []
    for rank in range(3):
        stand(rank, 3)
        parts.append(distributed.part_of_batch(torch.arange(8)).tolist())
    assert parts == [[0, 3, 6], [1, 4, 7], [2, 5]]
    assert distributed.part_of_batch([5, 6]) == [5]  # an empty part gets the first row


@pytest.mark.parametrize("count", [0, 1, 2, 7, 9])
def test_stretches_are_all_rows_in_order(stand: Stand, count: int) -> None:
    rows: list[int] = []
    for rank in range(3):
        stand(rank, 3)
        own = distributed.own_range(count)
        assert count // 3 <= len(own) <= -(-count // 3)
        rows += own
    assert rows == list(range(count))


def test_fewer_rows_than_processes_are_refused(stand: Stand) -> None:
    stand(1, 3)
    with pytest.raises(ValueError, match="2 rows cannot be evaluated by 3 processes; start fewer"):
        own_rows(2, 10)
    assert [part.tolist() for part in own_rows(3, 10)] == [[1]]


def test_workers_of_a_loader_draw_other_numbers_in_each_process(stand: Stand) -> None:
    """torch seeds the workers alike in all processes; only the first process keeps those seeds."""
    drawn = []
    for rank, worker in [(0, 0), (0, 1), (1, 0), (1, 1)]:
        stand(rank, 2)
        torch.manual_seed(7 + worker)
        np.random.seed(7 + worker)
        random.seed(7 + worker)
        randomness.seed_worker(worker)
        drawn.append(_draw())
    torch.manual_seed(7)
    np.random.seed(7)
    random.seed(7)
    assert drawn[0] == _draw()
    assert len({number for numbers in drawn for number in numbers}) == 12


def _draw() -> tuple[int, int, int]:
    numbers = torch.randint(10**9, ()), np.random.randint(10**9), random.randrange(10**9)
    return int(numbers[0]), int(numbers[1]), numbers[2]


def test_loaders_part_their_workers() -> None:
    config = Config("BPR")
    train, _, _ = data_preparation(config, create_dataset(config))
    assert train.worker_init_fn is randomness.seed_worker


def test_workers_draw_the_same_candidates_in_each_process() -> None:
    args = {"split": {"LS": "valid_and_test"}, "order": "TO", "mode": "uni5"}
    config = Config("BPR", config_dict={"eval_args": args, "eval_candidates": "drawn"})
    _, valid, test = data_preparation(config, create_dataset(config))
    assert valid.worker_init_fn is test.worker_init_fn is None


def test_each_process_has_a_gpu(stand: Stand, monkeypatch: pytest.MonkeyPatch) -> None:
    stand(1, 2)
    assert distributed.own_gpu() == "1"
    assert distributed.own_gpu("4, 6") == distributed.own_gpu((4, 6)) == "6"
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "2")
    for rank in (0, 1):  # both ranks refuse the same setting
        stand(rank, 2)
        assert Config("BPR", config_dict={"gpu_id": 3})["gpu_id"] == "3"  # not checked without GPUs
        with monkeypatch.context() as patch, pytest.raises(ValueError, match="gpu_id: 3 names 1, "):
            patch.setattr("torch.cuda.is_available", lambda: True)
            Config("BPR", config_dict={"gpu_id": 3})
    monkeypatch.setattr(torchrun, "VISIBLE_GPUS", "2,3")  # as a cluster's scheduler sets it
    assert Config("BPR")["gpu_id"] == "3"
    config = Config("BPR", config_dict={"gpu_id": "4,6"})
    assert (config["gpu_id"], config["local_rank"], config["show_progress"]) == ("6", 1, False)


def test_trees_grow_in_one_process(stand: Stand) -> None:
    pytest.importorskip("lightgbm")
    pytest.importorskip("xgboost")
    stand(0, 2)
    with pytest.raises(ValueError, match="XGBoost grows its trees in one process"):
        Config("XGBoost")


def test_a_download_is_left_to_a_process_on_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """RecBole's download ends at a barrier, where one of several processes would wait alone."""
    monkeypatch.setenv("WORLD_SIZE", "2")
    config = Config("BPR", "ml-1m", config_dict={"data_path": "here"})
    with pytest.raises(ValueError, match="'ml-1m' is not in .*here.* run once without torchrun"):
        create_dataset(config)


def test_who_starts_processes_says_which_is_which(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.delenv("RANK", raising=False)
    with pytest.raises(ValueError, match="WORLD_SIZE=2 is set, but not RANK.* start with torchrun"):
        torchrun.join()


def test_the_loss_of_a_process_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    closed = RuntimeError("[../gloo/transport/tcp/pair.cc:534] Connection closed by peer")
    with pytest.raises(RuntimeError, match="closed by peer"), torchrun.lost_processes_named():
        raise closed
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(torchrun.LostProcess, match="another process of this run has ended"):
        with torchrun.lost_processes_named():
            raise closed
    with pytest.raises(RuntimeError, match="size mismatch"), torchrun.lost_processes_named():
        raise RuntimeError("size mismatch")


LAST_WORDS = """
import sys
import torch
from recbole_llm.core.processes import torchrun
torchrun.join()
sys.setswitchinterval(1000)  # no thread gets the interpreter that is not given it
replicas = torch.nn.parallel.DistributedDataParallel(torch.nn.Linear(2, 2))
replicas(torch.ones(1, 2)).sum().backward()
for _ in range(3):
    torch.distributed.all_reduce(torch.ones(300_000), async_op=True)
for _ in range(5_000_000):  # the sums are there before the process ends
    pass
"""


@pytest.mark.slow
def test_a_process_ends_well_while_threads_hold_tensors() -> None:
    """torch aborts if such a thread asks for the interpreter while the interpreter shuts down."""
    Path("last_words.py").write_text(LAST_WORDS)
    start = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"]
    done = subprocess.run([*start, "last_words.py"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
