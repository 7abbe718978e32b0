"""The layout of a batch's real slots."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from recbole_llm.layers import packing
from recbole_llm.layers.packing import Layout, is_right_padded, left_aligned

masks = hnp.arrays(bool, st.tuples(st.integers(1, 5), st.integers(1, 6))).map(torch.from_numpy)


def test_right_padded() -> None:
    assert is_right_padded(torch.tensor([[1, 1, 0], [0, 0, 0], [1, 1, 1]]).bool())
    assert not is_right_padded(torch.tensor([[1, 1, 0], [0, 1, 1]]).bool())
    assert not is_right_padded(torch.tensor([[1, 0, 1]]).bool())


@given(masks, st.sampled_from([2, 64]))
def test_unpack_inverts_pack(mask: torch.Tensor, tile: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(packing, "TILE", tile)
        layout = Layout(mask)
    padded = torch.arange(1.0, mask.numel() + 1).view(*mask.shape, 1).requires_grad_()
    tokens = layout.pack(padded)
    real = int(mask.sum())
    assert layout.count == real
    assert tokens.shape[0] >= real + (real < mask.numel())
    assert tokens.shape[0] % tile == 0 or tokens.shape[0] < tile
    assert layout.position[:real].tolist() == mask.nonzero()[:, 1].tolist()
    assert layout.token[mask.flatten()].tolist() == list(range(real))
    unpacked = layout.unpack(tokens)
    assert torch.equal(unpacked, padded * mask.unsqueeze(2))
    # Gradients reach real slots, and no others.
    (grad,) = torch.autograd.grad(unpacked.square().sum() / 2, padded)
    assert torch.equal(grad, unpacked)


@given(masks)
def test_left_aligned_puts_real_slots_first(mask: torch.Tensor) -> None:
    order = left_aligned(mask)
    assert is_right_padded(mask.take_along_dim(order, 1))
    for row, places in zip(mask, order, strict=True):
        real = places[: int(row.sum())]
        assert real.tolist() == row.nonzero().flatten().tolist()
