"""The contrastive loss of the Molar authors' code."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from recbole_llm.layers.losses import unit_rows

MAX_LOG_SCALE = math.log(100)


class PooledNCE(nn.Module):
    """The loss of the authors' code: each target against all negatives of the batch, by cosine.

    A negative is dropped where its cosine to the target, not to the state, is above
    `same_item`: it is then taken for the target itself. Logits are multiplied by exp(log_scale),
    which is learned and at most 100.
    """

    def __init__(self, same_item: float = 0.99) -> None:
        super().__init__()
        self.same_item = same_item
        self.log_scale = nn.Parameter(torch.empty(()))
        self.reset()

    def reset(self) -> None:
        """Reset the scale to the authors' initial one."""
        nn.init.constant_(self.log_scale, math.log(1 / 0.07))

    def forward(self, states: Tensor, targets: Tensor, negatives: Tensor) -> Tensor:
        """States [T, D], vectors of the targets [T, D] and of the pool [M, D] -> scalar."""
        logits = self.logits(states, targets, negatives)
        return F.cross_entropy(logits, logits.new_zeros(len(logits), dtype=torch.long))

    def logits(self, states: Tensor, targets: Tensor, negatives: Tensor) -> Tensor:
        """Logits of the target, then of the pool, [T, 1 + M]; -inf where a negative is dropped."""
        with torch.no_grad():
            self.log_scale.clamp_(0, MAX_LOG_SCALE)
        with torch.autocast(states.device.type, enabled=False):
            states, targets, negatives = unit_rows(states, targets, negatives)
            target = (states * targets).sum(-1, keepdim=True)
            pool = states @ negatives.t()
            same = targets.detach() @ negatives.detach().t() > self.same_item
        scaled = torch.cat([target, pool], dim=1) * self.log_scale.exp()
        return scaled.masked_fill(F.pad(same, (1, 0)), -torch.inf)
