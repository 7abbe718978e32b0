"""Dropout: the rate, the expectation, the independence and the seed."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from recbole_llm.layers.dropout import Dropout, keep_mask


@pytest.mark.parametrize("p", [0.1, 0.2, 0.5, 0.9, 1 / 3])
def test_rate_and_scale(p: float) -> None:
    torch.manual_seed(0)
    mask = keep_mask(torch.Size((1000, 1001)), p)
    assert mask.unique().tolist() == pytest.approx([0, 1 / (1 - p)], rel=1e-3)
    # Within six standard deviations.
    deviation = (p * (1 - p) / mask.numel()) ** 0.5
    assert (mask == 0).double().mean().item() == pytest.approx(p, abs=6 * deviation + 1e-5)
    assert mask.mean().item() == pytest.approx(1, abs=6 * deviation / (1 - p) ** 2)


@pytest.mark.parametrize("shift", [1, 2, 3, 4, 1001])
def test_elements_are_independent(shift: int) -> None:
    torch.manual_seed(1)
    flat = keep_mask(torch.Size((1000, 1001)), 0.5).flatten() - 1
    correlation = (flat[shift:] * flat[:-shift]).mean().item()
    assert abs(correlation) < 6e-3


@pytest.mark.parametrize("p", [1e-7, 1 - 1e-7])
def test_extreme_rates_are_finite(p: float) -> None:
    assert keep_mask(torch.Size((99,)), p).isfinite().all()


def test_behaves_as_torchs_dropout() -> None:
    x, residual = torch.ones(5000, 60), torch.full((5000, 60), 5.0)
    for p in (0.0, 0.4, 1.0):
        ours = Dropout(p)
        torch.manual_seed(2)
        out = ours(x)
        torch.manual_seed(2)
        torch.testing.assert_close(ours.add_to(residual, x), residual + out)
        ours.eval()
        assert ours(x) is x
        assert torch.equal(ours.add_to(residual, x), residual + x)
    assert Dropout(1.0)(x).abs().sum() == 0
    assert isinstance(Dropout(0.1), nn.Dropout)


def test_follows_the_seed_and_the_gradient_follows_the_mask() -> None:
    drop, x = Dropout(0.5), torch.ones(7, 11, dtype=torch.double, requires_grad=True)
    torch.manual_seed(3)
    first = drop(x)
    torch.manual_seed(3)
    second = drop(x)
    assert torch.equal(first, second)
    assert first.dtype == torch.double
    (grad,) = torch.autograd.grad(first.sum(), x)
    assert torch.equal(grad, first)
