"""Initial weights of the dual-view network."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from recbole_llm.features.reduce import pca
from recbole_llm.features.table import Matrix
from recbole_llm.models.llmesr.layers import Adapter, CrossAttention, DualView

SHARPNESS = 2.0  # of the aligned start's attention: at 1 a position sees more of its neighbours


@dataclass(frozen=True)
class Start:
    """How a network starts.

    Args:
        pca: whether the collaborative item embeddings are principal components of the item
            vectors, as in the paper; else random.
        aligned: whether the adapter, too, starts as the projection on these components, and the
            cross-attention as the identity (its queries and keys as SHARPNESS times that). Then
            both views are the same at first: a position attends to little but its own item, and
            its score of a candidate is their likeness. The authors start both at random, which
            hides each position's own item: the cross-attention has no residual connection.
        item_std: standard deviation of the initial item embeddings (of either view).
        position_std: that of the position embeddings.
    """

    pca: bool
    aligned: bool
    item_std: float
    position_std: float


@torch.no_grad()
def initialise(network: DualView, matrix: Matrix, start: Start) -> None:
    """Set a network's initial weights but the backbone's; matrix [n, D] as the network's text."""
    table = network.item_embedding.weight  # [n, H]
    nn.init.normal_(network.position_embedding.weight, std=start.position_std)
    nn.init.normal_(table, std=start.item_std)
    components = pca(matrix)
    # Few or short vectors have fewer components than H; the other columns stay random.
    width = min(table.shape[1], components.axes.shape[1])
    deviation = components.spread(width)
    if deviation <= 1e-6 * abs(matrix).max():
        raise ValueError("LLMESR: all item vectors are the same; check item_prompt and encoder")
    scale = start.item_std / deviation
    if start.pca:
        table[:, :width] = torch.from_numpy(components.coordinates[:, :width]) * scale
    table[0] = 0.0
    if start.aligned:
        mean, axes = (torch.from_numpy(a).float() for a in components[:2])
        _project(network.adapter, mean, axes, scale)
        for attention in (network.to_collaborative, network.to_semantic):
            if attention is not None:
                _identity(attention)


def _project(adapter: Adapter, mean: Tensor, axes: Tensor, scale: float) -> None:
    """The adapter as scale * (T - mean) axes, as far as its widths go."""
    size = adapter.outer.weight.shape[0]
    if adapter.inner is None:
        width = min(size, axes.shape[1])
        adapter.outer.weight[:width] = scale * axes[:, :width].t()
        adapter.outer.bias[:width] = -scale * (mean @ axes[:, :width])
        return
    inner = min(adapter.inner.weight.shape[0], axes.shape[1])
    adapter.inner.weight[:inner] = axes[:, :inner].t()
    adapter.inner.bias[:inner] = -(mean @ axes[:, :inner])
    width = min(size, inner)
    adapter.outer.weight[:width] = scale * torch.eye(width, adapter.outer.weight.shape[1])
    adapter.outer.bias[:width] = 0.0


def _identity(attention: CrossAttention) -> None:
    for part in (attention.query, attention.key, attention.value, attention.out):
        nn.init.eye_(part.weight)
    for part in (attention.query, attention.key):
        part.weight *= SHARPNESS
