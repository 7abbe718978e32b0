"""Checks that a backbone reads neither later items nor padding."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

Backbone = Callable[[Tensor, Tensor], Tensor]


@torch.no_grad()
def future_leak(backbone: Backbone, emb: Tensor, mask: Tensor) -> float:
    """Return the largest change of an earlier real output when a row's last real input changes.

    The result is exactly 0 for a causal backbone in eval mode. emb [B, L, H], mask bool [B, L].
    """
    slots = torch.arange(mask.shape[1], device=mask.device)
    last = torch.where(mask, slots, -1).amax(1, keepdim=True)  # [B, 1]
    changed = torch.where((slots == last).unsqueeze(2), emb + 1.0, emb)
    moved = (backbone(emb, mask) - backbone(changed, mask)).abs().amax(2)  # [B, L]
    return float(torch.where(mask & (slots < last), moved, 0.0).max())


@torch.no_grad()
def padding_effect(backbone: Backbone, emb: Tensor, mask: Tensor) -> float:
    """Return the largest change of a real output when the contents of padded slots change.

    The result is 0 for a backbone that ignores padding. emb [B, L, H], mask bool [B, L].
    """
    changed = torch.where(mask.unsqueeze(2), emb, emb + 1.0)
    moved = (backbone(emb, mask) - backbone(changed, mask)).abs().amax(2)  # [B, L]
    return float(torch.where(mask, moved, 0.0).max())
