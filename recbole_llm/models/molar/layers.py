"""Molar's item vectors, and its causal network over a history of them."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from recbole_llm.features.item_init import append_items
from recbole_llm.features.tables.reduce import pca
from recbole_llm.layers.backbones.base import SequenceBackbone
from recbole_llm.layers.dropout import Dropout
from recbole_llm.layers.embedding import FrozenEmbedding
from recbole_llm.layers.packing import run_left_aligned
from recbole_llm.models.molar.codes import ProductCodes


class DUEG(SequenceBackbone):
    """Dynamic User Embedding Generator: a decoder as a sequence backbone.

    Args:
        decoder: (vectors [B, L, H], padded on the right) -> states [B, L, H].
    """

    def __init__(self, decoder: nn.Module) -> None:
        super().__init__()
        self.decoder = decoder

    def output_norm(self) -> nn.Module | None:
        """Return the decoder's last norm, named as in GPT-2 or Llama; None if it has none."""
        model = self.decoder.model
        return getattr(model, "ln_f", None) or getattr(model, "norm", None)

    def forward(self, emb: Tensor, mask: Tensor) -> Tensor:
        """emb [B, L, H], mask bool [B, L] -> states [B, L, H], zeros at padding."""
        lengths = mask.sum(1)
        return run_left_aligned(lambda aligned: self.decoder(aligned, lengths), emb, mask)


class ContentItems(nn.Module):
    """Content vectors W T_i + b + net(T_i) + codes(T_i); in early fusion plus an ID embedding.

    Args:
        vectors: T, frozen, [n, D].
        size: H, of the result.
        std: standard deviation of W T + b at the start, when W projects on the principal components
            of T; outputs beyond the components are random.
        hidden_size: of the net, which has one hidden layer of GELUs; 0: no net.
        dropout: on the hidden layer.
        codes: number of codes of an item, see `ProductCodes`; 0: none.
        code_dropout: on the codes.
        fused: whether to add an ID embedding (early fusion).
    """

    def __init__(
        self,
        vectors: FrozenEmbedding,
        size: int,
        std: float,
        hidden_size: int = 0,
        dropout: float = 0.0,
        codes: int = 0,
        code_dropout: float = 0.0,
        fused: bool = False,
    ) -> None:
        super().__init__()
        self.vectors = vectors
        self.projection = nn.Linear(vectors.dimension, size)
        components = pca(vectors.weight.numpy(), size)
        if not components.spread() > 0:
            raise ValueError("Molar: all item vectors are the same; check item_prompt and encoder")
        nn.init.zeros_(self.projection.bias)
        components.project(self.projection, std / components.spread())
        self.net = _zero_net(vectors, hidden_size, size, dropout) if hidden_size else None
        self.codes = ProductCodes(vectors.weight, size, codes, code_dropout) if codes else None
        self.ids = nn.Embedding(len(vectors.weight), size, padding_idx=0) if fused else None
        if self.ids is not None:
            nn.init.zeros_(self.ids.weight)  # so the sum starts from the text, as with `item_init`

    def forward(self, ids: Tensor) -> Tensor:
        """int [*] -> [*, size]."""
        content = self.vectors(ids)
        vectors: Tensor = self.projection(content)
        if self.net is not None:
            vectors = vectors + self.net(content)
        if self.codes is not None:
            vectors = vectors + self.codes(ids)
        return vectors if self.ids is None else vectors + self.ids(ids)

    def append(self, vectors: Tensor) -> None:
        """Add items that came after training, [m, D]."""
        append_items(self.vectors, vectors, *([] if self.ids is None else [self.ids]))
        if self.codes is not None:
            self.codes.append(self.vectors.weight[-len(vectors) :])


@torch.no_grad()
def _zero_net(vectors: FrozenEmbedding, hidden_size: int, size: int, dropout: float) -> nn.Module:
    """Build the net beside the projection: zero at the start, scaled to its inputs' spread."""
    first, last = nn.Linear(vectors.dimension, hidden_size), nn.Linear(hidden_size, size)
    first.weight /= vectors.weight.std()
    nn.init.zeros_(last.weight)
    nn.init.zeros_(last.bias)
    return nn.Sequential(first, nn.GELU(), Dropout(dropout), last)
