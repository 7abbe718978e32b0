"""What only a GPU can show; see docs/gpu.md."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from recbole_llm import testing
from recbole_llm.core.config import Config
from recbole_llm.core.memory import memory_needed_by
from recbole_llm.layers.losses import cross_entropy
from recbole_llm.steps import build_model, build_trainer, load_data
from recbole_llm.tasks.recommend import Recommender
from recbole_llm.trainers.phased import PhasedTrainer

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU")
MODELS = ("PAD", "LLMESR", "AlphaRec", "Molar", "SASRec", "GRU4Rec", "LightGCN", "DIN")


def prepared(model: str, **keys: Any) -> tuple[Any, Any]:
    """A configuration on the GPU, and its loaders."""
    testing.write_tiny_dataset("dataset")
    quiet = {"show_progress": False, "epochs": 2, "encoder": "hash", "data_path": "dataset"}
    config = Config(model, "tiny", config_dict={**quiet, "threshold": {"rating": 3}, **keys})
    assert config["device"].type == "cuda"
    return config, load_data(config)[1:]


@pytest.mark.parametrize("amp", [False, True])
@pytest.mark.parametrize("model", MODELS)
def test_trains_evaluates_resumes_and_recommends(model: str, amp: bool) -> None:
    config, (train, valid, test) = prepared(model, enable_amp=amp, enable_scaler=amp)
    trainer = build_trainer(config, build_model(config, train.dataset))
    trainer.fit(train, valid, verbose=False, saved=True)
    if not isinstance(trainer, PhasedTrainer):  # it resumes only stopped runs
        trainer.resume_checkpoint(trainer.saved_model_file)
    result = trainer.evaluate(test, show_progress=False)
    assert all(value == value for value in result.values())  # no nan
    if model != "DIN":
        frame = Recommender(config, trainer.model, train.dataset).recommend(["u1"], k=3)
        assert len(frame) == 3


@pytest.mark.parametrize("model", MODELS)
def test_scores_are_those_of_the_cpu(model: str) -> None:
    config, (train, _, test) = prepared(model)
    network = build_model(config, train.dataset).eval()
    rows, name = next(iter(test))[0], "predict" if model == "DIN" else "full_sort_predict"
    there = getattr(network, name)(rows.to("cuda")).cpu()
    network.to("cpu").train().eval()  # drops what the model has cached
    here = getattr(network, name)(rows.to("cpu"))
    torch.testing.assert_close(there, here, atol=1e-4, rtol=1e-3)


def test_cross_entropy_stays_within_its_memory() -> None:
    states = torch.randn(2048, 64, device="cuda", requires_grad=True)
    table = torch.randn(1_000_000, 64, device="cuda", requires_grad=True)
    targets = torch.randint(1, 1_000_000, (2048,), device="cuda")
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    cross_entropy(states, table, targets).backward()
    assert torch.cuda.max_memory_allocated() - before < 2 * 2**30  # the logits alone are 8 GiB


def test_memory_of_the_gpu_that_runs_out_names_the_way_out() -> None:
    with (
        pytest.raises(ValueError, match=r"^a step does not fit into memory \(CUDA out of memory"),
        memory_needed_by("a step", "make it smaller"),
    ):
        torch.empty(2**46, device="cuda")
