"""Frequency-aware gating: how much each expert counts for an item, by how often it was bought."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

EXPERTS = ("id", "aligned", "llm")


def frequency_bins(counts: np.ndarray, n_bins: int) -> np.ndarray:
    """Bin of each item, int64 [n]: 1 (the most popular) to n_bins; 0 for the padding item.

    Args:
        counts: *training* interactions of each item, [n]; row 0 is the padding item.
        n_bins: number of bins, of near-equal numbers of interactions. Items of equal counts share
            a bin, so that there may be fewer bins; items without training interactions are in
            the last bin.
    """
    values, group, items = np.unique(-counts[1:], return_inverse=True, return_counts=True)
    sizes = items * -values  # interactions of a group
    # A group's middle interaction decides its bin, so that bins err in both directions alike.
    middle = np.cumsum(sizes) - sizes / 2
    bins = np.floor(middle * n_bins / max(1, sizes.sum())).clip(0, n_bins - 1)
    # A group larger than two bins leaves the bins before it empty: number the others anew.
    _, bins = np.unique(bins, return_inverse=True)
    bins[values == 0] = n_bins - 1
    return np.concatenate([[0], 1 + bins[group]])


def gate_weights(alpha: Tensor) -> Tensor:
    """Weights of the experts from the gates' logits, both [3, bins + 1]."""
    share = torch.sigmoid(alpha)
    return share / share.sum(0)


class FrequencyGate(nn.Module):
    """w_k = sigmoid(alpha_k[bin]) / sum_j sigmoid(alpha_j[bin]) over the three experts.

    Args:
        bins: bin of each item, int64 [n], 0 for padding.
        gamma_2: initial logit of the aligned expert in bin 0; it falls by 1 over the bins.
    """

    bins: Tensor

    def __init__(self, bins: np.ndarray, n_bins: int, gamma_2: float) -> None:
        super().__init__()
        # Stored in checkpoints, since later interactions would move items to other bins.
        self.register_buffer("bins", torch.as_tensor(bins, dtype=torch.int64))
        self._bins = self.bins.clone()
        starts = ((1.0, 0.0), (gamma_2, gamma_2 - 1), (0.0, 1.0))
        self._initial = torch.stack([torch.linspace(a, b, n_bins + 1) for a, b in starts])
        self.alpha = nn.Parameter(self._initial.clone())  # [3, bins + 1]

    def append(self, count: int) -> None:
        """Add items without training interactions, which go to the last bin like others."""
        last = self.bins.new_full((count,), self.alpha.shape[1] - 1)
        self.bins = torch.cat([self.bins, last])

    @torch.no_grad()
    def reset(self) -> None:
        """Restore the initial weights, and the bins of the present data."""
        self.alpha.copy_(self._initial)
        self.bins.copy_(self._bins)

    def weights(self) -> Tensor:
        """Weight of each expert in each bin, [3, bins + 1]; sums to 1 over the experts."""
        return gate_weights(self.alpha)

    def forward(self, ids: Tensor) -> Tensor:
        """ids int [*] -> weights of the experts for these items, [*, 3]."""
        return nn.functional.embedding(self.bins[ids], self.weights().T)
