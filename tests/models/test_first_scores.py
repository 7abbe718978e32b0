"""Scores of untrained models vary about as much as the keys say."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from recbole_llm import testing
from recbole_llm.core.config import Config
from recbole_llm.steps import build_model, load_data

QUIET = {"show_progress": False, "encoder": "hash", "loss_type": "CE"}
KEYS = {
    "PAD": ("score_std", {}),
    "SASRec": ("item_init_score_std", {"item_init": "llm", "item_init_std": 0.3}),
}


def _deviation(model: str, std: float) -> float:
    """Return the standard deviation of the scores of all real items, averaged over states."""
    key, keys = KEYS[model]
    testing.write_tiny_dataset("dataset")
    config = Config(model, "tiny", config_dict={**QUIET, **keys, key: std, "data_path": "dataset"})
    _, train, _, _ = load_data(config)
    made: Any = build_model(config, train.dataset).eval()
    if model == "PAD":
        made.phase = "pretrain"
    histories = torch.arange(1, 41).view(10, 4)
    with torch.no_grad():
        scores = made.last_states(histories) @ made.item_vectors()[1:].t()
    return float(scores.std(1).mean())


@pytest.mark.parametrize("model", KEYS)
@pytest.mark.parametrize("std", [0.1, 1.0])
def test_first_scores_vary_as_the_key_says(model: str, std: float) -> None:
    assert _deviation(model, std) == pytest.approx(std, rel=0.3)


@pytest.mark.parametrize("model", KEYS)
def test_zero_leaves_the_norm(model: str) -> None:
    assert _deviation(model, 0) > 0.7


@torch.no_grad()
def test_pads_id_and_llm_expert_start_alike() -> None:
    testing.write_tiny_dataset("dataset")
    keys = {**QUIET, "score_std": 0.5, "item_dropout_prob": 0.5, "data_path": "dataset"}
    config = Config("PAD", "tiny", config_dict=keys)
    made: Any = build_model(config, load_data(config)[1].dataset).eval()
    for name in ("id", "llm"):
        expert = made.experts[name]
        items = expert.items(torch.arange(made.n_items))
        scores = expert.backbone.output_norm()(items) @ items.t()
        assert scores.square().mean().sqrt().item() == pytest.approx(0.5, rel=1e-4)
