"""Errors of memory that ran out."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
import torch
from recbole.model.general_recommender import BPR

from recbole_llm.core.memory import memory_needed_by, peak_memory
from recbole_llm.features.pipeline import encode_batch
from recbole_llm.quick_start import run_recbole_llm


def _fail(*_: object, **__: object) -> Any:
    raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB")


@pytest.mark.parametrize(
    ("allocate", "reason"),
    [
        pytest.param(lambda: torch.empty(2**60), "DefaultCPUAllocator: .*", id="torch"),
        pytest.param(lambda: np.empty(2**56), "Unable to allocate .*", id="numpy"),
        pytest.param(lambda: bytearray(2**62), "MemoryError", id="python"),
        pytest.param(_fail, "CUDA out of memory.*", id="cuda"),
    ],
)
def test_the_way_out_is_named(allocate: Callable[[], object], reason: str) -> None:
    said = rf"^a step does not fit into memory \(.*{reason}\); make it smaller$"
    with pytest.raises(ValueError, match=said), memory_needed_by("a step", "make it smaller"):
        allocate()


def test_other_errors_stay_what_they_are() -> None:
    with pytest.raises(RuntimeError, match=r"^shapes$"), memory_needed_by("a step", "smaller"):
        raise RuntimeError("shapes")


@pytest.mark.usefixtures("tiny")
@pytest.mark.parametrize(
    ("method", "said"),
    [
        ("calculate_loss", r"^a training step of BPR .*; lower train_batch_size \(now 2048\)"),
        ("full_sort_predict", r"^an evaluation step of BPR .*; lower eval_memory_mib"),
    ],
    ids=["training", "evaluation"],
)
def test_a_run_names_the_key_to_lower(
    method: str, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(BPR, method, _fail)
    keys = {"epochs": 1, "show_progress": False, "data_path": "dataset"}
    with pytest.raises(ValueError, match=said):
        run_recbole_llm("BPR", "tiny", config_dict=keys)


def test_encoding_names_the_key_to_lower() -> None:
    class Large:
        fingerprint = "large"

        def encode(self, texts: Sequence[str]) -> Any:
            return _fail(texts)

    with pytest.raises(ValueError, match=r"^encoding 2 contents .*; lower encoder_batch_tokens"):
        encode_batch(Large(), ["a", "b"])


def test_the_peak_is_that_of_this_process_and_not_of_the_one_that_started_it() -> None:
    script = "from recbole_llm.core.memory import peak_memory; print(peak_memory())"
    own = subprocess.run([sys.executable, "-c", script], capture_output=True, check=True).stdout
    assert 0 < int(own) < (peak_memory() or 0) / 2  # this process has loaded torch
