"""Initial weights of the dual-view network."""

from __future__ import annotations

import torch
from torch import nn

from recbole_llm.features.tables.reduce import pca
from recbole_llm.models.llmesr.layers import DualView
from recbole_llm.models.llmesr.settings import LLMESRSettings

SHARPNESS = 2.0  # of the aligned start's attention: at 1 a position sees more of its neighbors


@torch.no_grad()
def initialize(network: DualView, settings: LLMESRSettings) -> None:
    """Set a network's initial weights, except the backbone's.

    With ``aligned_init`` both views are the same at first: a position attends to little but its own
    item, and its score of a candidate is the two items' similarity. The authors start
    adapter and cross-attention at random, which hides each position's own item, since the
    cross-attention has no residual connection.
    """
    matrix = network.text.weight.numpy()  # [n, D]
    table = network.item_embedding.weight  # [n, H]
    nn.init.normal_(network.position_embedding.weight, std=settings.initializer_range)
    nn.init.normal_(table, std=settings.item_std)
    components = pca(matrix)
    # Few or short vectors have fewer components than H; the other columns stay random.
    width = min(table.shape[1], components.axes.shape[1])
    deviation = components.spread(width)
    if deviation <= 1e-6 * abs(matrix).max():
        raise ValueError("LLMESR: all item vectors are the same; check item_prompt and encoder")
    scale = settings.item_std / deviation
    if settings.pca_init:
        table[:, :width] = torch.from_numpy(components.coordinates[:, :width]) * scale
    table[0] = 0.0
    if settings.aligned_init:
        inner, outer = network.adapter.inner, network.adapter.outer
        if inner is None:
            components.project(outer, scale)
        else:
            components.project(inner, 1.0)
            both = min(width, inner.out_features)
            outer.weight[:both] = scale * torch.eye(both, inner.out_features)
            outer.bias[:both] = 0.0
        for attention in filter(None, (network.to_collaborative, network.to_semantic)):
            for part in (attention.query, attention.key, attention.value, attention.out):
                nn.init.eye_(part.weight)
            attention.query.weight *= SHARPNESS
            attention.key.weight *= SHARPNESS
