"""The dual-view network of LLM-ESR."""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from recbole_llm.layers.attention import SelfAttention, attention_mask
from recbole_llm.layers.backbones import backbone_from_settings
from recbole_llm.layers.embedding import FrozenEmbedding, map_distinct
from recbole_llm.layers.packing import Layout
from recbole_llm.models.llmesr.settings import LLMESRSettings

# Inputs already contain positions; SASRec has its authors' block.
BACKBONE_OPTIONS: dict[str, dict[str, Any]] = {
    "SASRec": {"original": True, "position": False, "input_norm": False},
    "BERT4Rec": {"position": False},
}


class Adapter(nn.Module):
    """a(T): linear layers without an activation between them, D -> D // 2 -> H (or D -> H).

    Without activations the layers compose to one matrix, and composing them first is several
    times cheaper than passing a catalogue's rows through the wide inner layer.
    """

    def __init__(self, text_size: int, hidden_size: int, n_layers: int = 2) -> None:
        super().__init__()
        width = max(text_size // 2, 1) if n_layers == 2 else text_size
        self.inner = nn.Linear(text_size, width) if n_layers == 2 else None
        self.outer = nn.Linear(width, hidden_size)

    def forward(self, vectors: Tensor) -> Tensor:
        """[*, D] -> [*, H]."""
        weight, bias = self.outer.weight, self.outer.bias
        if self.inner is not None:
            weight, bias = weight @ self.inner.weight, self.outer(self.inner.bias)
        return F.linear(vectors, weight, bias)


class CrossAttention(SelfAttention):
    """C(queries, keys and values): bias only in the output, no residual connection, no norm."""

    def __init__(self, hidden_size: int, n_heads: int) -> None:
        super().__init__(hidden_size, n_heads, dropout=0.0, bias=False)
        self.out = nn.Linear(hidden_size, hidden_size)
        for part in (self.query, self.key, self.value, self.out):
            nn.init.xavier_normal_(part.weight)
        nn.init.zeros_(self.out.bias)


class DualView(nn.Module):
    """Semantic and collaborative streams, cross-attention both ways, and a backbone per view (or a
    shared one)."""

    def __init__(self, settings: LLMESRSettings, text: FrozenEmbedding) -> None:
        super().__init__()
        size, length = settings.hidden_size, settings.MAX_ITEM_LIST_LENGTH
        self.views = settings.views
        separate = self.views == "both" and not settings.share_backbone
        options = BACKBONE_OPTIONS.get(settings.backbone, {})
        self.backbones = nn.ModuleList(
            backbone_from_settings(settings, length, **options) for _ in range(2 if separate else 1)
        )
        self.causal = True  # the golden tests of the authors' leaking versions switch it off
        self.scale = math.sqrt(size)
        self.text = text
        self.item_embedding = nn.Embedding(text.weight.shape[0], size, padding_idx=0)
        self.position_embedding = nn.Embedding(length + 1, size)  # 1, 2, ... are used
        self.adapter = Adapter(text.dimension, size, settings.adapter_layers)
        self.dropout = nn.Dropout(settings.stream_dropout_prob)
        crossed = settings.cross_attention and self.views == "both"
        heads = settings.cross_heads
        self.to_collaborative = CrossAttention(size, heads) if crossed else None
        self.to_semantic = CrossAttention(size, heads) if crossed else None
        unread = {"semantic": self.item_embedding, "collaborative": self.adapter}.get(self.views)
        if unread is not None:
            unread.requires_grad_(False)  # a model with the other view alone does not use it

    @property
    def size(self) -> int:
        """Length of a state and of an item vector: 2 H, or H with a single view."""
        return self.item_embedding.embedding_dim * (2 if self.views == "both" else 1)

    def item_vectors(self, ids: Tensor | None = None) -> Tensor:
        """[E_i ; a(T_i)] of ids int [*] -> [*, 2 H]; None: the whole table, [n, 2 H]."""
        return torch.cat(self._vectors(ids), dim=-1)

    def states(self, item_seq: Tensor, mask: Tensor) -> Tensor:
        """F after every position: item_seq int [B, L], mask bool [B, L] -> [B, L, 2 H]."""
        real_states = self.states_at(item_seq, mask, mask)
        states = real_states.new_zeros(*mask.shape, self.size)
        states[mask] = real_states
        return states

    def states_at(self, item_seq: Tensor, mask: Tensor, wanted: Tensor) -> Tensor:
        """F after some items, row by row: item_seq int [B, L], masks bool [B, L] -> [T, 2 H]."""
        padded = self._cross_attend(item_seq, mask)
        if len(self.backbones) == len(padded):
            nets: list[Any] = list(self.backbones)
            outputs = [net.at(x, mask, wanted) for net, x in zip(nets, padded)]
        else:  # one pass of the shared backbone over both
            shared: Any = self.backbones[0]
            masks = [m.repeat(len(padded), 1) for m in (mask, wanted)]
            outputs = shared.at(torch.cat(padded), *masks).chunk(2)
        return torch.cat(outputs, dim=1)

    def last_states(self, item_seq: Tensor) -> Tensor:
        """F after the last real item: int [B, L] -> [B, 2 H]."""
        mask = item_seq != 0
        padded = self._cross_attend(item_seq, mask)
        nets: list[Any] = list(self.backbones) * (len(padded) // len(self.backbones))
        return torch.cat([net.last(x, mask) for net, x in zip(nets, padded, strict=True)], dim=1)

    def _cross_attend(self, item_seq: Tensor, mask: Tensor) -> list[Tensor]:
        """Return the backbones' inputs, [B, L, H] per view."""
        layout = Layout(mask)
        streams = self._streams(layout, item_seq)
        if self.to_collaborative is not None and self.to_semantic is not None:
            allowed = attention_mask(layout, self.causal)
            collaborative, semantic = streams
            streams = [
                self.to_collaborative(semantic, collaborative, layout, allowed),
                self.to_semantic(collaborative, semantic, layout, allowed),
            ]
        return [layout.unpack(stream) for stream in streams]

    def _streams(self, layout: Layout, item_seq: Tensor) -> list[Tensor]:
        """sqrt(H) * item + position of every real slot, [T, H] per view."""
        positions = self.position_embedding(layout.pack(layout.mask.long().cumsum(1)))
        vectors = self._vectors(layout.pack(item_seq))
        return [self.dropout(self.scale * x + positions) for x in vectors]

    def _vectors(self, ids: Tensor | None) -> list[Tensor]:
        """Item vectors of each view, [*, H]."""
        vectors = []
        if self.views != "semantic":
            vectors.append(self.item_embedding.weight if ids is None else self.item_embedding(ids))
        if self.views != "collaborative":
            if ids is None:
                vectors.append(self.adapter(self.text.weight))
            else:
                vectors.append(map_distinct(lambda some: self.adapter(self.text(some)), ids))
        return vectors
