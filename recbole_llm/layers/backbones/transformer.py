"""The transformer backbone: SASRec, with RecBole's or the original block, and BERT4Rec."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from recbole_llm.layers.attention import LastSlots, SelfAttention, attention_mask
from recbole_llm.layers.backbones.base import SequenceBackbone
from recbole_llm.layers.dropout import Dropout
from recbole_llm.layers.matmul import apply_linear
from recbole_llm.layers.packing import Layout, last_slots

ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "gelu": F.gelu,
    "relu": F.relu,
    "swish": F.silu,
    "tanh": torch.tanh,
    "sigmoid": torch.sigmoid,
}


class TransformerBlock(nn.Module):
    """One block, in either of two orders.

    post (RecBole, BERT):  h = N1(x + A(x, x));  h = N2(h + F(h))
    original (the SASRec authors' code):  q = N1(x);  h = q + A(q, x);  h = N2(h);  h = h + F(h)

    A(queries, keys and values) is attention, F the feed-forward net and N a layer norm. The
    arguments are those of `TransformerBackbone`.
    """

    def __init__(
        self,
        hidden_size: int,
        *,
        n_heads: int,
        inner_size: int,
        hidden_dropout_prob: float,
        attn_dropout_prob: float,
        hidden_act: str,
        layer_norm_eps: float,
        original: bool,
        attention_bias: bool,
    ) -> None:
        super().__init__()
        self.activation = ACTIVATIONS[hidden_act]
        self.original = original
        self.attention = SelfAttention(hidden_size, n_heads, attn_dropout_prob, attention_bias)
        self.attention_norm = nn.LayerNorm(hidden_size, layer_norm_eps)
        self.dense_1 = nn.Linear(hidden_size, inner_size)
        self.dense_2 = nn.Linear(inner_size, hidden_size)
        self.feed_forward_norm = nn.LayerNorm(hidden_size, layer_norm_eps)
        self.dropout = Dropout(hidden_dropout_prob)

    def forward(self, x: Tensor, layout: Layout, mask: Tensor) -> Tensor:
        """Tokens x [T', H] -> [T', H]; mask from `attention_mask`."""
        queries = self._queries(x)
        return self._add_and_feed_forward(queries, self.attention(queries, x, layout, mask))

    def at(self, x: Tensor, layout: Layout, mask: Tensor, wanted: Layout) -> Tensor:
        """Tokens x [T', H] -> [S', H], outputs at the wanted slots alone."""
        queries = self._queries(wanted.among(layout, x))
        return self._add_and_feed_forward(queries, self.attention(queries, x, layout, mask, wanted))

    def last(self, x: Tensor, layout: Layout, slots: LastSlots) -> Tensor:
        """Tokens x [T', H] -> [B', H], outputs at the last slots alone."""
        queries = self._queries(x[slots.token])
        return self._add_and_feed_forward(queries, self.attention.last(queries, x, layout, slots))

    def _queries(self, x: Tensor) -> Tensor:
        return self.attention_norm(x) if self.original else x

    def _add_and_feed_forward(self, queries: Tensor, attended: Tensor) -> Tensor:
        """The rest of the block after its attention, row by row: [*, H], [*, H] -> [*, H]."""
        if self.original:
            hidden = self.feed_forward_norm(self.dropout.add_to(queries, attended))
            return self.dropout.add_to(hidden, self._feed_forward(hidden))
        hidden = self.attention_norm(self.dropout.add_to(queries, attended))
        forwarded = self.dropout.add_to(hidden, self._feed_forward(hidden))
        return self.feed_forward_norm(forwarded)

    def _feed_forward(self, hidden: Tensor) -> Tensor:
        return apply_linear(self.activation(apply_linear(hidden, self.dense_1)), self.dense_2)


class TransformerBackbone(SequenceBackbone):
    """Causal transformer over item vectors; the slot index is the position.

    The defaults are RecBole's SASRec. `original=True, input_norm=False` gives the network
    of the SASRec authors (Kang & McAuley 2018), which ends in one more layer norm.

    Args:
        hidden_size: H, of inputs and outputs.
        max_length: longest L.
        n_layers, n_heads: blocks, and heads in each.
        inner_size: width of the feed-forward net; None: 4 H.
        hidden_dropout_prob, attn_dropout_prob: on states, and on attention probabilities.
        hidden_act: gelu, relu, swish, tanh or sigmoid.
        layer_norm_eps: of every layer norm.
        initializer_range: standard deviation of the initial weights.
        original: whether blocks have the original order, see `TransformerBlock`.
        attention_bias: whether the attention's projections have biases.
        position: whether to add a learned position vector; off when the caller adds its own.
        input_norm: whether to normalize the inputs.
        output_net: whether states go through GELU(W h + b), as in BERT4Rec (Sun et al. 2019, eq.
            7), with RecBole's layer norm after it.
    """

    def __init__(
        self,
        hidden_size: int,
        max_length: int,
        *,
        n_layers: int = 2,
        n_heads: int = 2,
        inner_size: int | None = None,
        hidden_dropout_prob: float = 0.5,
        attn_dropout_prob: float = 0.5,
        hidden_act: str = "gelu",
        layer_norm_eps: float = 1e-12,
        initializer_range: float = 0.02,
        original: bool = False,
        attention_bias: bool = True,
        position: bool = True,
        input_norm: bool = True,
        output_net: bool = False,
    ) -> None:
        super().__init__()
        self.max_length = max_length
        self.position_embedding = nn.Embedding(max_length, hidden_size) if position else None
        self.input_norm = nn.LayerNorm(hidden_size, layer_norm_eps) if input_norm else None
        self.dropout = Dropout(hidden_dropout_prob)
        self.blocks = nn.ModuleList(
            TransformerBlock(
                hidden_size,
                n_heads=n_heads,
                inner_size=inner_size or 4 * hidden_size,
                hidden_dropout_prob=hidden_dropout_prob,
                attn_dropout_prob=attn_dropout_prob,
                hidden_act=hidden_act,
                layer_norm_eps=layer_norm_eps,
                original=original,
                attention_bias=attention_bias,
            )
            for _ in range(n_layers)
        )
        self.last_norm = nn.LayerNorm(hidden_size, layer_norm_eps) if original else None
        initialize(self, initializer_range)
        self.output_net: nn.Sequential | None = None
        if output_net:
            norm = nn.LayerNorm(hidden_size, layer_norm_eps)
            dense = nn.Linear(hidden_size, hidden_size)
            self.output_net = nn.Sequential(dense, nn.GELU(), norm)
            initialize(self.output_net, initializer_range)

    def output_norm(self) -> nn.LayerNorm:
        """Return the last layer norm before the output."""
        norms = [module for module in self.modules() if isinstance(module, nn.LayerNorm)]
        return norms[-1]

    def forward(self, emb: Tensor, mask: Tensor) -> Tensor:
        """emb [B, L, H], mask bool [B, L] (True = real) -> [B, L, H]; zeros at padding."""
        layout, allowed = self._layout(mask)
        x = self._below_last(emb, mask, layout, allowed)
        return layout.unpack(self._normed(self.blocks[-1](x, layout, allowed)))

    def last(self, emb: Tensor, mask: Tensor) -> Tensor:
        """emb [B, L, H], mask bool [B, L] -> [B, H]; the last block has one query per row. An
        empty row gives zeros, since its only token is a spare with another row's vector."""
        layout, allowed = self._layout(mask)
        slots = LastSlots.of(layout, last_slots(mask), allowed)
        x = self._below_last(emb, mask, layout, allowed)
        block: Any = self.blocks[-1]
        states = self._normed(block.last(x, layout, slots))[: layout.rows]
        return states.masked_fill(~mask.any(1, keepdim=True), 0)

    def at(self, emb: Tensor, mask: Tensor, wanted: Tensor) -> Tensor:
        """emb [B, L, H], masks bool [B, L] -> [T, H]; the last block has only wanted queries."""
        layout, allowed = self._layout(mask)
        x, chosen = self._below_last(emb, mask, layout, allowed), Layout(wanted)
        block: Any = self.blocks[-1]
        if chosen.count == layout.count:
            x = block(x, layout, allowed)
        else:
            x = block.at(x, layout, allowed, chosen)
        return self._normed(x)[: chosen.count]

    def _layout(self, mask: Tensor) -> tuple[Layout, Tensor]:
        layout = Layout(mask)
        return layout, attention_mask(layout, causal=True)

    def _below_last(self, emb: Tensor, mask: Tensor, layout: Layout, allowed: Tensor) -> Tensor:
        """Tokens after all blocks but the last, [T', H]."""
        x = self._inputs(layout.pack(emb), layout)
        for block in self.blocks[:-1]:
            x = block(x, layout, allowed)
        return x

    def _normed(self, x: Tensor) -> Tensor:
        x = x if self.last_norm is None else self.last_norm(x)
        return x if self.output_net is None else self.output_net(x)

    def _inputs(self, tokens: Tensor, layout: Layout) -> Tensor:
        if layout.length > self.max_length:
            raise ValueError(
                f"a batch has {layout.length} slots, the backbone's max_length is "
                f"{self.max_length}: raise MAX_ITEM_LIST_LENGTH"
            )
        if self.position_embedding is not None:
            tokens = tokens + self.position_embedding(layout.position)
        if self.input_norm is not None:
            tokens = self.input_norm(tokens)
        return self.dropout(tokens)


def initialize(module: nn.Module, initializer_range: float) -> None:
    """RecBole's SASRec initialization: normal weights, zero biases, unit layer norms."""
    for part in module.modules():
        if isinstance(part, (nn.Linear, nn.Embedding)):
            nn.init.normal_(part.weight, std=initializer_range)
        if isinstance(part, nn.Linear) and part.bias is not None:
            nn.init.zeros_(part.bias)
        if isinstance(part, nn.LayerNorm):
            part.reset_parameters()
