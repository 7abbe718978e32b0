"""The two models of Molar: item vectors, and a causal network over a history of them."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from recbole_llm.features.item_init import append_items
from recbole_llm.features.reduce import pca
from recbole_llm.layers.dropout import Dropout
from recbole_llm.layers.embedding import FrozenEmbedding, of_distinct
from recbole_llm.layers.packing import run_left_aligned


class Tower(nn.Module):
    """A user model.

    Args:
        items: ids int [*] -> item vectors [*, H].
        network: (vectors [B, L, H], mask [B, L]) -> states [B, L, H], causal.
        dropout: on the vectors of the history.
    """

    def __init__(self, items: nn.Module, network: nn.Module, dropout: float = 0.0) -> None:
        super().__init__()
        self.items, self.network, self.dropout = items, network, Dropout(dropout)

    def forward(self, item_seq: Tensor, mask: Tensor) -> Tensor:
        """item_seq int [B, L], mask bool [B, L] -> states [B, L, H]."""
        return self.network(self.dropout(of_distinct(self.items, item_seq)), mask)


class DUEG(nn.Module):
    """Dynamic User Embedding Generator: a decoder as a sequence backbone.

    Args:
        decoder: (vectors [B, L, H], padded on the right) -> states [B, L, H].
    """

    def __init__(self, decoder: nn.Module) -> None:
        super().__init__()
        self.decoder = decoder

    def forward(self, emb: Tensor, mask: Tensor) -> Tensor:
        """emb [B, L, H], mask bool [B, L] -> states [B, L, H], zeros at padding."""
        lengths = mask.sum(1)
        return run_left_aligned(lambda own: self.decoder(own, lengths), emb, mask)


class ContentItems(nn.Module):
    """Content vectors W T_i + b + net(T_i); in early fusion plus an ID embedding.

    Args:
        vectors: T, frozen, [n, D].
        size: H, of the result.
        std: standard deviation of the projection W T + b at the start, which is that on the
            principal components of T; what they do not fill is random.
        hidden_size: of the net, whose one hidden layer is of GELUs; 0: there is none.
        dropout: on the hidden layer.
        fused: whether IDs take part.
    """

    def __init__(
        self,
        vectors: FrozenEmbedding,
        size: int,
        std: float,
        hidden_size: int = 0,
        dropout: float = 0.0,
        fused: bool = False,
    ) -> None:
        super().__init__()
        self.vectors = vectors
        self.projection = nn.Linear(vectors.dimension, size)
        _project(self.projection, vectors.weight, std)
        self.net = _net(vectors, hidden_size, size, dropout) if hidden_size else None
        self.ids = nn.Embedding(len(vectors.weight), size, padding_idx=0) if fused else None
        if self.ids is not None:
            nn.init.zeros_(self.ids.weight)  # from where the text starts, as `item_init` does

    def forward(self, ids: Tensor) -> Tensor:
        """int [*] -> [*, size]."""
        content = self.vectors(ids)
        made: Tensor = self.projection(content)
        if self.net is not None:
            made = made + self.net(content)
        return made if self.ids is None else made + self.ids(ids)

    def append(self, vectors: Tensor) -> None:
        """Take items that came after training, [m, D]."""
        append_items(self.vectors, vectors, *([] if self.ids is None else [self.ids]))


@torch.no_grad()
def _net(vectors: FrozenEmbedding, hidden_size: int, size: int, dropout: float) -> nn.Module:
    """The net beside the projection: zero at the start, and made for inputs of their spread."""
    first, last = nn.Linear(vectors.dimension, hidden_size), nn.Linear(hidden_size, size)
    first.weight /= vectors.weight.std()
    nn.init.zeros_(last.weight)
    nn.init.zeros_(last.bias)
    return nn.Sequential(first, nn.GELU(), Dropout(dropout), last)


@torch.no_grad()
def _project(projection: nn.Linear, vectors: Tensor, std: float) -> None:
    """Start as std times the standardised projection on the vectors' principal components."""
    components = pca(vectors.numpy(), projection.out_features)
    mean, axes = (torch.from_numpy(part).float() for part in components[:2])
    spread, width = components.spread(), axes.shape[1]
    if not spread > 0:
        raise ValueError("Molar: all item vectors are the same; check item_prompt and encoder")
    scale = std / spread
    projection.weight[:width] = scale * axes.t()
    projection.bias[:width] = -scale * (mean @ axes)
    projection.bias[width:] = 0.0
