"""The layout of a batch's real slots."""

from __future__ import annotations

import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from recbole_llm.layers.packing import Layout, is_right_padded, left_aligned

masks = hnp.arrays(bool, st.tuples(st.integers(1, 5), st.integers(1, 6))).map(torch.from_numpy)


def test_right_padded() -> None:
    assert is_right_padded(torch.tensor([[1, 1, 0], [0, 0, 0], [1, 1, 1]]).bool())
    assert not is_right_padded(torch.tensor([[1, 1, 0], [0, 1, 1]]).bool())
    assert not is_right_padded(torch.tensor([[1, 0, 1]]).bool())


@given(masks)
def test_unpack_inverts_pack(mask: torch.Tensor) -> None:
    layout = Layout(mask)
    padded = torch.arange(1.0, mask.numel() + 1).view(*mask.shape, 1)
    tokens = layout.pack(padded)
    assert tokens.shape == (int(mask.sum()), 1)
    assert torch.equal(layout.unpack(tokens), padded * mask.unsqueeze(2))
    assert layout.slots().tolist() == mask.nonzero()[:, 1].tolist()


@given(masks)
def test_left_aligned_puts_real_slots_first(mask: torch.Tensor) -> None:
    order = left_aligned(mask)
    assert is_right_padded(mask.take_along_dim(order, 1))
    for row, places in zip(mask, order, strict=True):
        real = places[: int(row.sum())]
        assert real.tolist() == row.nonzero().flatten().tolist()
