"""Self-attention over the real slots of a batch."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from recbole_llm.layers.packing import Layout


def attention_mask(layout: Layout, causal: bool, attend_padding: bool) -> Tensor | None:
    """Which keys each query may see, bool [B, 1, L, L]; None: the plain causal triangle.

    In right-padded rows padding comes after every real query, so the triangle hides it. Every
    slot sees itself, so that no query is left without a key.
    """
    if causal and (layout.right_padded or attend_padding):
        return None
    length, device = layout.length, layout.mask.device
    eye = torch.eye(length, dtype=torch.bool, device=device)
    keys = torch.ones_like(layout.mask) if attend_padding else layout.mask
    allowed = keys[:, None, None, :].expand(-1, 1, length, -1)
    return (allowed.tril() if causal else allowed) | eye


class SelfAttention(nn.Module):
    """Multi-head self-attention; queries may come from other states than keys and values.

    Args:
        hidden_size: H.
        n_heads: heads; they divide H.
        dropout: on the attention probabilities.
        bias: whether the four projections have biases.
    """

    def __init__(self, hidden_size: int, n_heads: int, dropout: float, bias: bool) -> None:
        super().__init__()
        if hidden_size % n_heads:
            raise ValueError(f"n_heads={n_heads} does not divide hidden_size={hidden_size}")
        self.n_heads = n_heads
        self.dropout = dropout
        self.query = nn.Linear(hidden_size, hidden_size, bias)
        self.key = nn.Linear(hidden_size, hidden_size, bias)
        self.value = nn.Linear(hidden_size, hidden_size, bias)
        self.out = nn.Linear(hidden_size, hidden_size, bias)

    def forward(
        self, queries: Tensor, states: Tensor, layout: Layout, mask: Tensor | None
    ) -> Tensor:
        """queries, states [T, H] (real slots) -> [T, H]; mask from `attention_mask`."""
        projected = (self.query(queries), self.key(states), self.value(states))
        q, k, v = (self._heads(layout.unpack(x)) for x in projected)  # [B, heads, L, H / heads]
        dropout = self.dropout if self.training else 0.0
        mixed = F.scaled_dot_product_attention(
            q, k, v, attn_mask=mask, dropout_p=dropout, is_causal=mask is None
        )
        output: Tensor = self.out(layout.pack(mixed.transpose(1, 2).flatten(2)))
        return output

    def _heads(self, x: Tensor) -> Tensor:
        return x.unflatten(2, (self.n_heads, -1)).transpose(1, 2)
