"""Packing of a padded batch's real slots, so that no work is spent on padding."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from recbole_llm.layers.exporting import is_exporting
from recbole_llm.layers.matmul import TILE


def is_right_padded(mask: Tensor) -> bool:
    """Return whether every row of `mask` [B, L] has real slots followed by padding."""
    if is_exporting():  # an exported model reads no padding
        return True
    return not bool((mask[:, 1:] & ~mask[:, :-1]).any())


def left_aligned(mask: Tensor) -> Tensor:
    """Return the order [B, L] that puts each row's real slots first, keeping their order."""
    return torch.argsort((~mask).to(torch.uint8), dim=1, stable=True)


def last_slots(mask: Tensor) -> Tensor:
    """Return the slot of each row's last real item, 0 if there is none: bool [B, L] -> int [B]."""
    slots = torch.arange(mask.shape[1], device=mask.device)
    return torch.where(mask, slots, 0).amax(1)  # right- or left-padded


def select_last(states: Tensor, mask: Tensor) -> Tensor:
    """States after the last real item: [B, L, *], bool [B, L] -> [B, *]."""
    rows = torch.arange(mask.shape[0], device=mask.device)
    return states[rows, last_slots(mask)]


def run_left_aligned(run: Callable[[Tensor], Tensor], emb: Tensor, mask: Tensor) -> Tensor:
    """Apply `run` to [B, L, H] with each row's real slots first; put the outputs back in place."""
    if is_right_padded(mask):
        return run(emb)
    order = left_aligned(mask).unsqueeze(2)  # [B, L, 1]
    return run(emb.take_along_dim(order, 1)).take_along_dim(order.argsort(1), 1)


class Layout:
    """The real slots of a batch [B, L], packed into a matrix of T' rows, the tokens.

    T' is the number of real slots, rounded up for the matrix library (see `matmul`). Tokens after
    the real ones are spares, with finite but meaningless numbers and no gradient. At least the last
    token is a spare, unless every slot is real and no rounding is needed.

    Attributes:
        mask: bool [B, L], True = real.
        right_padded: whether padding comes only after the real slots, as in RecBole.
        count: T, real slots.
        slot: int [T'], each token's slot in the flattened batch, row by row; spares have 0.
    """

    def __init__(self, mask: Tensor) -> None:
        self.mask = mask
        self.rows, self.length = mask.shape
        self.right_padded = is_right_padded(mask)
        if is_exporting():
            real = torch.arange(mask.numel(), device=mask.device)
        else:
            real = mask.flatten().nonzero().squeeze(1)  # [T]
        self.count = real.shape[0]
        spares = 0 if self.count == mask.numel() else 1
        self.slot = real.new_zeros(rounded(self.count + spares))
        self.slot[: self.count] = real

    @property
    def size(self) -> int:
        """T', the number of tokens."""
        return self.slot.shape[0]

    @cached_property
    def token(self) -> Tensor:
        """Token of each slot, int [B L]; padding has the last token, a spare."""
        token = self.slot.new_full((self.rows * self.length,), self.size - 1)
        token[self.slot[: self.count]] = torch.arange(self.count, device=token.device)
        return token

    @property
    def position(self) -> Tensor:
        """Slot number of each token within its row, int [T']."""
        if is_exporting():  # ONNX has no remainder by a varying length
            return torch.arange(self.length, device=self.slot.device).repeat(self.rows)
        return self.slot % self.length

    def pack(self, padded: Tensor) -> Tensor:
        """[B, L, H] -> tokens [T', H]."""
        flat = padded.flatten(0, 1)
        if self.size == self.count == flat.shape[0]:
            return flat
        return _Pack.apply(flat, self.slot, self.count)  # type: ignore[no-untyped-call]

    def among(self, whole: Layout, tokens: Tensor) -> Tensor:
        """Select this layout's tokens from those of `whole`, which has all slots of this layout:
        [T', H] -> [S', H]."""
        return _Pack.apply(tokens, whole.token[self.slot], self.count)  # type: ignore[no-untyped-call]

    def unpack(self, tokens: Tensor) -> Tensor:
        """Tokens [T', H] -> [B, L, H], zeros at padding."""
        if self.size == self.count == self.rows * self.length:
            return tokens.view(self.rows, self.length, -1)
        return _Unpack.apply(tokens, self.slot[: self.count], self.mask.shape)  # type: ignore[no-untyped-call]


def rounded(count: int) -> int:
    """Return the row count to use for `count` rows: the next multiple of TILE, if above TILE."""
    if is_exporting():
        return count
    return count if count < TILE else -(-count // TILE) * TILE


class _Pack(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, flat: Tensor, slot: Tensor, count: int) -> Tensor:
        ctx.slots, ctx.real = flat.shape[0], slot[:count]
        return flat.index_select(0, slot)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        total = grad.new_zeros(ctx.slots, grad.shape[1])
        return total.index_copy_(0, ctx.real, grad[: len(ctx.real)]), None, None


class _Unpack(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, tokens: Tensor, real: Tensor, shape: torch.Size) -> Tensor:
        ctx.real, ctx.size = real, tokens.shape[0]
        padded = tokens.new_zeros(shape.numel(), tokens.shape[1])
        return padded.index_copy_(0, real, tokens[: len(real)]).view(*shape, -1)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        total = grad.new_zeros(ctx.size, grad.shape[2])
        torch.index_select(grad.flatten(0, 1), 0, ctx.real, out=total[: len(ctx.real)])
        return total, None, None
