"""Dropout with masks that are cheap to draw on a CPU."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

_LEVELS = 1 << 16  # a mask element is drawn from 16 random bits


class Dropout(nn.Dropout):
    """`torch.nn.Dropout` with masks that take a tenth of the time on a CPU.

    On a CPU, torch draws a 53-bit uniform number for each element; here four elements share one
    64-bit number of the same generator. The rate is rounded to a multiple of 1 / 65,536. Kept
    elements are scaled by the rounded rate, so that the expectation stays exact.
    """

    def forward(self, input: Tensor) -> Tensor:
        """[*] -> [*]."""
        if not self.training or self.p == 0:
            return input
        if input.device.type != "cpu" or self.p == 1:
            return F.dropout(input, self.p)
        return input * keep_mask(input.shape, self.p, input.dtype)

    def add_to(self, residual: Tensor, input: Tensor) -> Tensor:
        """residual + dropout(input), in one pass."""
        if not self.training or self.p in (0, 1) or input.device.type != "cpu":
            return residual + self(input)
        mask = keep_mask(input.shape, self.p, input.dtype)
        return torch.addcmul(residual, input, mask)


def keep_mask(shape: torch.Size, p: float, dtype: torch.dtype = torch.float32) -> Tensor:
    """Return a CPU mask: 0 with probability p, else 1 / (1 - p), independently per element."""
    count = shape.numel()
    dropped = min(round(p * _LEVELS), _LEVELS - 1)
    bits = torch.empty((count + 3) // 4, dtype=torch.int64).random_(-(2**63), None)
    mask = torch.empty(count, dtype=dtype)
    torch.ge(bits.view(torch.int16)[:count], dropped - _LEVELS // 2, out=mask)
    return mask.mul_(_LEVELS / (_LEVELS - dropped)).view(shape)
