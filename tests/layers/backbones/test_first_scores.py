"""The norm that a backbone's states come out of, and the scores that it gives before training."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from recbole_llm.layers.backbones import BACKBONES
from recbole_llm.layers.backbones.base import scale_scores
from recbole_llm.layers.backbones.transformer import TransformerBackbone

SIZE = 16


def _silenced(norm: Any) -> None:
    """Make the norm output zeros, whatever its input."""
    nn.init.zeros_(norm.weight)
    if getattr(norm, "bias", None) is not None:
        nn.init.zeros_(norm.bias)


@pytest.mark.parametrize("options", [{}, {"original": True, "input_norm": False},
                                     {"output_net": True}])  # fmt: skip
def test_all_states_of_a_transformer_come_out_of_that_norm(options: dict[str, Any]) -> None:
    backbone = TransformerBackbone(SIZE, 5, **options).eval()
    emb, mask = torch.randn(3, 5, SIZE), torch.ones(3, 5, dtype=torch.bool)
    assert backbone.last(emb, mask).any()
    _silenced(backbone.output_norm())
    assert not backbone(emb, mask).any()
    assert not backbone.last(emb, mask).any()
    assert not backbone.at(emb, mask, mask).any()


def test_the_other_backbones_have_none() -> None:
    for name in ("GRU4Rec", "Caser"):
        assert BACKBONES[name](hidden_size=SIZE, max_length=5).output_norm() is None


@pytest.mark.parametrize("weight", [1.0, 3.0])
def test_scores_of_the_items_own_states_vary_as_wanted(weight: float) -> None:
    torch.manual_seed(0)
    norm, items = nn.LayerNorm(64), torch.randn(500, 64) * torch.linspace(0.6, 0.0, 64)
    nn.init.constant_(norm.weight, weight)
    with torch.no_grad():
        assert float((norm(items) @ items.t()).square().mean().sqrt()) > weight
        scale_scores(norm, items, 0.5)
        scores = norm(items) @ items.t()
    assert float(scores.square().mean().sqrt()) == pytest.approx(0.5, rel=1e-3)


def test_by_hand() -> None:
    norm = nn.LayerNorm(2)
    scale_scores(norm, torch.tensor([[3.0, 5.0], [0.0, 0.0]]), 0.5)
    # The first item's state (-1, 1) scores 2 with itself: the mean square of the four scores is 1.
    torch.testing.assert_close(norm.weight.detach(), torch.full((2,), 0.5))


@pytest.mark.parametrize("case", ["off", "frozen", "no items"])
def test_what_stays_as_it_is(case: str) -> None:
    norm = nn.LayerNorm(2).requires_grad_(case != "frozen")
    items = torch.zeros(3, 2) if case == "no items" else torch.eye(3, 2)
    scale_scores(norm, items, 0.0 if case == "off" else 0.5)
    assert torch.equal(norm.weight, torch.ones(2))
    scale_scores(None, items, 0.5)
