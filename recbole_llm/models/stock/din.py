"""RecBole's DIN, whose attention leaves out padding."""

from __future__ import annotations

from math import sqrt
from typing import Any

import torch
from recbole.data.dataset import Dataset
from recbole.model.layers import SequenceAttLayer
from torch import Tensor, nn

from recbole_llm.core.compat import anomaly_detection_kept
from recbole_llm.core.config import Config
from recbole_llm.layers.packing import Layout

with anomaly_detection_kept():
    from recbole.model.sequential_recommender.din import DIN as StockDIN


class PackedAttention(nn.Module):
    """The attention of RecBole's DIN, from the target to the history, with the layers of `stock`.

    The stock layer runs its MLP at padding, too, and then sets those weights to zero.
    """

    def __init__(self, stock: SequenceAttLayer) -> None:
        super().__init__()
        self.att_mlp_layers, self.dense = stock.att_mlp_layers, stock.dense

    def forward(self, queries: Tensor, keys: Tensor, lengths: Tensor) -> Tensor:
        """Targets [B, H], histories [B, L, H], their lengths int [B] -> [B, 1, H]."""
        layout = Layout(torch.arange(keys.shape[1], device=keys.device) < lengths[:, None])
        key = layout.pack(keys)  # [T', H]
        query = queries[layout.slot // layout.length]
        hidden = self.att_mlp_layers(torch.cat([query, key, query - key, query * key], dim=-1))
        weights = layout.unpack(self.dense(hidden)) / sqrt(keys.shape[-1])  # [B, L, 1]
        return weights.transpose(1, 2) @ keys


class DIN(StockDIN):  # type: ignore[misc]
    """The stock model with the same parameters; histories need not be padded to the full length."""

    attention: Any

    def __init__(self, config: Config, dataset: Dataset) -> None:
        super().__init__(config, dataset)
        self.attention = PackedAttention(self.attention)
