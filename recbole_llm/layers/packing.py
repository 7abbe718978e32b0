"""Which slots of a padded batch are real, so that no work is spent on padding."""

from __future__ import annotations

import torch
from torch import Tensor


def is_right_padded(mask: Tensor) -> bool:
    """True when every row of `mask` [B, L] is real slots followed by padding."""
    return not bool((mask[:, 1:] & ~mask[:, :-1]).any())


class Layout:
    """The real slots of a batch: gathers them from [B, L, *] and scatters them back.

    Attributes:
        mask: bool [B, L], True = real.
        right_padded: padding only after the real slots, RecBole's layout.
        index: int [T], the real slots in the flattened batch, row by row.
    """

    def __init__(self, mask: Tensor) -> None:
        self.mask = mask
        self.rows, self.length = mask.shape
        self.right_padded = is_right_padded(mask)
        self.index = mask.flatten().nonzero().squeeze(1)  # [T]
        self.full = self.index.shape[0] == mask.numel()

    def pack(self, padded: Tensor) -> Tensor:
        """[B, L, *] -> [T, *]."""
        flat = padded.flatten(0, 1)
        return flat if self.full else flat.index_select(0, self.index)

    def unpack(self, tokens: Tensor) -> Tensor:
        """[T, *] -> [B, L, *], zeros at padding."""
        if not self.full:
            shape = (self.rows * self.length, *tokens.shape[1:])
            tokens = tokens.new_zeros(shape).index_copy(0, self.index, tokens)
        return tokens.unflatten(0, (self.rows, self.length))

    def slots(self) -> Tensor:
        """Slot number in its row of every real slot, [T]."""
        return self.index % self.length


def left_aligned(mask: Tensor) -> Tensor:
    """Order [B, L] that puts each row's real slots first, keeping their order."""
    return torch.argsort((~mask).to(torch.uint8), dim=1, stable=True)
