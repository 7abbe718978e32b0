"""Two processes train and evaluate as one does; a run that lost a process is resumed."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from processes import do

from recbole_llm.core.checkpoints.checkpoint import load_checkpoint
from recbole_llm.testing import write_tiny_dataset

CHILD = Path(__file__).parent / "processes.py"
QUIET = {
    "data_path": "dataset", "epochs": 2, "train_batch_size": 63,
    "show_progress": False, "encoder": "hash", "metric_decimal_place": 12,
    "MAX_ITEM_LIST_LENGTH": 10,
    "hidden_dropout_prob": 0.0, "attn_dropout_prob": 0.0, "dropout_prob": 0.0,
}  # fmt: skip
SASREC = {**QUIET, "model": "SASRec", "hidden_size": 8, "inner_size": 8}
SAMPLED = {"split": {"LS": "valid_and_test"}, "order": "TO", "group_by": "user", "mode": "uni5"}
LABELS = {
    "threshold": {"rating": 3}, "train_neg_sample_args": None,
    "metrics": ["AUC", "LogLoss", "GAUC"], "valid_metric": "AUC",
    "eval_args": {"split": {"RS": [6, 2, 2]}, "order": "TO", "mode": "labeled"},
}  # fmt: skip


def together(
    runs: list[Mapping[str, Any]], die_at: int = 0, processes: int = 2
) -> tuple[list[dict[str, Any]], str]:
    """Results of runs by several processes, and what they and torchrun wrote to stderr."""
    Path("runs.json").write_text(json.dumps(runs))
    Path("results.json").write_text("[]")
    start = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    child = [str(CHILD), "runs.json", "results.json", str(die_at)]
    done = subprocess.run(
        [*start, f"--nproc_per_node={processes}", *child], capture_output=True, text=True
    )
    assert (done.returncode == 0) == (not die_at), done.stderr
    return json.loads(Path("results.json").read_text()), done.stderr


def check_same(runs: list[Mapping[str, Any]], processes: int = 2) -> None:
    for one, two in zip(do(runs), together(runs, processes=processes)[0], strict=True):
        assert two["losses"] == pytest.approx(one["losses"], rel=1e-5)
        for key in ("best_valid_result", "test_result"):
            assert two[key] == pytest.approx(one[key], abs=1e-6)
        assert two["best_valid_score"] == pytest.approx(one["best_valid_score"], abs=1e-6)


def test_two_processes_are_as_one() -> None:
    """One run ranks all items by whole histories; the other evaluates an odd number of clicks."""
    write_tiny_dataset("dataset")
    check_same([SASREC, {**QUIET, **LABELS, "model": "DeepFM"}])
    assert len(list(Path("log").iterdir())) == 2  # only the first process's; pytest has its own log
    assert len(list(Path("saved").iterdir())) == 4


@pytest.mark.slow
def test_three_processes_are_as_one() -> None:
    write_tiny_dataset("dataset")
    prefix = {**SASREC, "train_level": "prefix", "eval_groups": ["items", "users", "cold"]}
    own = {"eval_candidates": "drawn", "eval_batch_size": 10**6, "train_batch_size": 10**6}
    few = {**QUIET, **own, "model": "BPR", "eval_args": SAMPLED, "epochs": 1}
    few |= {"metrics": ["AUC", "GAUC"], "valid_metric": "AUC"}
    pop = {**QUIET, "model": "Pop"}
    check_same([prefix, {**SASREC, "eval_args": SAMPLED}, pop], processes=3)
    (one,) = together([few], processes=3)[0]  # three processes draw other training negatives
    assert 0 < one["test_result"]["gauc"] < 1


@pytest.mark.slow
def test_examples_in_context_are_those_of_one_process() -> None:
    """The models are LLM-CF's, with items' texts in place of texts by a language model."""
    write_tiny_dataset("dataset")
    texts = {"thoughts": "item_text", "thought_examples": 30}
    clicks = {**QUIET, **LABELS, **texts, "model": "LLMCF", "backbone": "DeepFM"}
    check_same([clicks, {**SASREC, **texts, "model": "LLMCFRetrieval"}])


@pytest.mark.slow
def test_the_first_process_sorts_interactions_for_all() -> None:
    write_tiny_dataset("dataset")
    (two,), _ = together([{**SASREC, "interactions": "disk"}])
    assert [path.name for path in Path("dataset/tiny").glob("tiny.sorted*")] == ["tiny.sorted"]
    (one,) = do([SASREC])
    assert two["losses"] == pytest.approx(one["losses"], rel=1e-5)
    assert two["test_result"] == pytest.approx(one["test_result"], abs=1e-6)


@pytest.mark.slow
def test_a_sparse_table_is_trained_together() -> None:
    """Each process draws its own negatives, so the losses are similar, not equal."""
    write_tiny_dataset("dataset")
    negatives = {"distribution": "uniform", "sample_num": 50}
    sampled = {"loss_type": "SSM", "train_neg_sample_args": negatives, "item_table": "sparse"}
    (one,), ((two,), _) = do([{**SASREC, **sampled}]), together([{**SASREC, **sampled}])
    assert two["losses"] == pytest.approx(one["losses"], rel=0.02)


@pytest.mark.slow
def test_models_of_every_kind_train_together() -> None:
    """The models have phases, two optimizers, a graph, users as rows, or a tuple of losses."""
    write_tiny_dataset("dataset")
    models = ("PAD", "LLMESR", "AlphaRec", "Molar", "BPR", "LightGCN", "MultiVAE", "RecVAE", "MKR")
    results, _ = together([{**QUIET, "model": model} for model in (*models, "BERT4Rec", "DIN")])
    assert len(results) == len(models) + 2
    for result in results:
        assert all(0 <= value <= 1 for value in result["test_result"].values())


@pytest.mark.slow
def test_a_run_that_lost_a_process_goes_on() -> None:
    write_tiny_dataset("dataset")
    run = {**SASREC, "epochs": 3, "hidden_dropout_prob": 0.5}
    ((whole,), _), (nothing, said) = together([run]), together([run], die_at=8)
    (file,) = Path("saved").glob("*-last.pth")
    ours = [line for line in said.splitlines() if "error: " in line]
    assert nothing == [] and len(ours) == 1
    assert "error: another process of this run has ended" in ours[0]
    assert ours[0].endswith(f"the same command with --resume={file} goes on")
    ((again,), _) = together([{**run, "resume": str(file)}])
    assert again["losses"] == whole["losses"][-len(again["losses"]) :]
    states = [load_checkpoint(result["checkpoint"])["state_dict"] for result in (whole, again)]
    assert all(torch.equal(value, states[1][name]) for name, value in states[0].items())
    assert again["test_result"] == whole["test_result"]
    with pytest.raises(ValueError, match="does not exist"):  # a finished run removes it
        do([{**run, "resume": str(file)}])
