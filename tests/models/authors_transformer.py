"""The transformer as in the SASRec authors' code, to compare with numbers from that code."""

from __future__ import annotations

import torch
from torch import Tensor

from recbole_llm.layers.attention import attention_mask
from recbole_llm.layers.backbones.transformer import TransformerBackbone
from recbole_llm.layers.packing import Layout


class AuthorsTransformer(TransformerBackbone):
    """A transformer in which padding takes part as zero vectors, which matters only in left-padded
    rows. If it is not `causal`, every position sees the whole row."""

    causal = True

    def _layout(self, mask: Tensor) -> tuple[Layout, Tensor]:
        layout = Layout(torch.ones_like(mask))
        return layout, attention_mask(layout, self.causal)

    def _below_last(self, emb: Tensor, mask: Tensor, layout: Layout, allowed: Tensor) -> Tensor:
        real = layout.pack(mask.unsqueeze(2))
        x = self._inputs(layout.pack(emb) * real, layout)
        for block in self.blocks[:-1]:
            x = block(x, layout, allowed) * real
        return x
