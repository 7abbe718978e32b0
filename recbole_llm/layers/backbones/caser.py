"""Caser backbone: convolutions over the last items of every position."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from recbole_llm.layers.backbones.base import SequenceBackbone
from recbole_llm.layers.dropout import Dropout
from recbole_llm.layers.packing import run_left_aligned


class CaserBackbone(SequenceBackbone):
    """Caser (Tang & Wang 2018) at every position: a window of the last `caser_window` items.

    Vertical filters weight the items of the window. Horizontal filters of each height slide over
    the window and are max-pooled. A dense layer maps both to the convolutional sequence embedding
    z (eq. 10). There is no user embedding: the sequence alone stands for the user. Slots before the
    sequence count as zero vectors.

    Args:
        hidden_size: H, of inputs and outputs.
        max_length: longest L.
        caser_window: items in a window; None: min(max_length, 10). RecBole recommends a
            small number, such as 10.
        nv, nh: vertical filters, and horizontal filters of each height.
        hidden_dropout_prob: on the filters' outputs.
    """

    def __init__(
        self,
        hidden_size: int,
        max_length: int,
        *,
        caser_window: int | None = None,
        nv: int = 4,
        nh: int = 8,
        hidden_dropout_prob: float = 0.4,
    ) -> None:
        super().__init__()
        self.window = caser_window or min(max_length, 10)
        self.vertical = nn.Linear(self.window, nv)
        heights = range(1, self.window + 1)
        self.horizontal = nn.ModuleList(nn.Conv1d(hidden_size, nh, height) for height in heights)
        self.dropout = Dropout(hidden_dropout_prob)
        self.dense = nn.Linear(nv * hidden_size + nh * self.window, hidden_size)
        nn.init.xavier_normal_(self.dense.weight)
        nn.init.zeros_(self.dense.bias)

    def forward(self, emb: Tensor, mask: Tensor) -> Tensor:
        """emb [B, L, H], mask bool [B, L] (True = real) -> [B, L, H]."""
        return run_left_aligned(self._run, emb, mask)

    def _run(self, emb: Tensor) -> Tensor:
        features = torch.cat([self._vertical(emb), self._horizontal(emb)], dim=2)
        return F.relu(self.dense(self.dropout(features)))

    def _vertical(self, emb: Tensor) -> Tensor:
        """[B, L, H] -> [B, L, nv H]."""
        padded = F.pad(emb, (0, 0, self.window - 1, 0))
        windows = padded.unfold(1, self.window, 1)  # [B, L, H, window]
        return self.vertical(windows).transpose(2, 3).flatten(2)

    def _horizontal(self, emb: Tensor) -> Tensor:
        """[B, L, H] -> [B, L, nh window]."""
        padded = F.pad(emb.transpose(1, 2), (self.window - 1, 0))  # [B, H, window - 1 + L]
        pooled = []
        for height, conv in enumerate(self.horizontal, start=1):
            places = F.relu(conv(padded)).unsqueeze(2)  # [B, nh, 1, L + window - height]
            # Equal to max_pool1d, for which torch.export would fix the length.
            pooled.append(F.max_pool2d(places, (1, self.window - height + 1), stride=1))
        return torch.cat(pooled, dim=1).squeeze(2).transpose(1, 2)
