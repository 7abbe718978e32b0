"""Self-attention between the tokens of a packed batch."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from recbole_llm.layers.dropout import keep_mask
from recbole_llm.layers.matmul import apply_linear
from recbole_llm.layers.packing import Layout, rounded


def attention_mask(layout: Layout, causal: bool) -> Tensor:
    """Return which keys each query may see: bool [L, L] for all rows, or [B, 1, L, L].

    In right-padded rows, padding comes after every real query, so the causal triangle alone hides
    it. Every slot sees itself, so that no query is left without a key.
    """
    length, device = layout.length, layout.mask.device
    triangle = torch.ones(length, length, dtype=torch.bool, device=device).tril()
    if causal and layout.right_padded:
        return triangle
    keys = layout.mask[:, None, None, :]
    allowed = keys & triangle if causal else keys
    return allowed | torch.eye(length, dtype=torch.bool, device=device)


class LastSlots(NamedTuple):
    """The last real slot of each row, which is the only query of the row."""

    token: Tensor  # int [B'], the query's token; B' is B, rounded up for the matrix library
    allowed: Tensor  # bool [B, 1, 1, L], the keys that the query may see

    @classmethod
    def of(cls, layout: Layout, slots: Tensor, mask: Tensor) -> LastSlots:
        """Return the queries at slots int [B]; `mask` comes from `attention_mask`."""
        rows = torch.arange(layout.rows, device=slots.device)
        token = layout.token[rows * layout.length + slots]
        spares = rounded(layout.rows) - layout.rows
        allowed = mask[slots] if mask.dim() == 2 else mask[rows, 0, slots]
        return cls(F.pad(token, (0, spares)), allowed[:, None, None])


class AttentionPlan(NamedTuple):
    """The keys that the queries of a packed batch see; both layouts are of one [B, L] batch."""

    queries: Layout  # of S' queries
    keys: Layout  # of T' keys and values
    mask: Tensor  # from `attention_mask`
    n_heads: int  # h; the length of a head's vectors is d = H / h
    dropout: float  # on the attention probabilities


class SelfAttention(nn.Module):
    """Multi-head self-attention; queries may come from other states than keys and values.

    Args:
        hidden_size: H.
        n_heads: number of heads, which divides H.
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
        self,
        queries: Tensor,
        states: Tensor,
        layout: Layout,
        mask: Tensor,
        wanted: Layout | None = None,
    ) -> Tensor:
        """Attend from queries [S', H], packed by `wanted` (default: `layout`), to states [T', H] ->
        [S', H]; `mask` comes from `attention_mask`."""
        q, kv = apply_linear(queries, self.query), apply_linear(states, self.key, self.value)
        plan = AttentionPlan(wanted or layout, layout, mask, self.n_heads, self._dropout())
        return apply_linear(attend(q, kv, plan), self.out)

    def last(self, queries: Tensor, states: Tensor, layout: Layout, slots: LastSlots) -> Tensor:
        """Attend with one query per row: queries [B', H], states [T', H] -> [B', H]."""
        rows, length = layout.mask.shape
        q = apply_linear(queries, self.query).view(queries.shape[0], self.n_heads, 1, -1)
        kv = layout.unpack(apply_linear(states, self.key, self.value))  # [B, L, 2 H]
        k, v = kv.view(rows, length, 2, self.n_heads, -1).permute(2, 0, 3, 1, 4)
        mixed = F.scaled_dot_product_attention(q[:rows], k, v, slots.allowed, self._dropout())
        spares = queries.shape[0] - rows
        return apply_linear(F.pad(mixed.flatten(1), (0, 0, 0, spares)), self.out)

    def _dropout(self) -> float:
        return self.dropout if self.training else 0.0


def attend(q: Tensor, kv: Tensor, plan: AttentionPlan) -> Tensor:
    """softmax(q k.T / sqrt(d)) v within each row of the batch: queries [S', H], keys and values
    [T', 2 H] -> [S', H]."""
    if q.device.type != "cpu" or not q.requires_grad:
        return attend_padded(q, kv, plan)
    return _Attention.apply(q, kv, plan)  # type: ignore[no-untyped-call]


def attend_padded(q: Tensor, kv: Tensor, plan: AttentionPlan) -> Tensor:
    """Return the same as `attend`, by torch's fused kernel on padded rows."""
    shape = (*plan.keys.mask.shape, -1, plan.n_heads, q.shape[1] // plan.n_heads)
    (q,) = plan.queries.unpack(q).view(shape).permute(2, 0, 3, 1, 4)
    k, v = plan.keys.unpack(kv).view(shape).permute(2, 0, 3, 1, 4)
    causal = plan.mask.dim() == 2  # with is_causal torch's fused kernels skip half the work
    mask = None if causal else plan.mask
    mixed = F.scaled_dot_product_attention(q, k, v, mask, plan.dropout, is_causal=causal)
    return plan.queries.pack(mixed.transpose(1, 2).flatten(2))


class Heads:
    """Moves vectors between tokens and heads [B, h, L, d]; each move is one gather."""

    def __init__(self, layout: Layout, heads: int) -> None:
        self.layout = layout
        self.shape = (layout.rows, heads, layout.length)  # B, h, L
        self.head = torch.arange(heads, device=layout.slot.device)

    def split(self, tokens: Tensor, parts: int) -> Tensor:
        """[T', parts H] -> [parts, B, h, L, d]; padding gets the spare token's vector."""
        rows, heads, length = self.shape
        part = torch.arange(parts, device=tokens.device).view(-1, 1, 1, 1)
        token = self.layout.token.view(1, rows, 1, length)
        index = (token * parts + part) * heads + self.head.view(1, 1, -1, 1)
        vectors = tokens.view(tokens.shape[0] * parts * heads, -1)
        return vectors.index_select(0, index.flatten()).view(parts, *self.shape, -1)

    def join(self, vectors: Tensor) -> Tensor:
        """[parts, B, h, L, d] -> [T', parts H]; zeros in spare tokens."""
        parts = vectors.shape[0]
        rows, heads, length = self.shape
        slot = self.layout.slot
        part = torch.arange(parts, device=slot.device).view(1, -1, 1)
        row = (slot // length).view(-1, 1, 1) + part * rows
        index = (row * heads + self.head) * length + (slot % length).view(-1, 1, 1)
        flat = vectors.view(-1, vectors.shape[-1])
        tokens = flat.index_select(0, index.flatten()).view(self.layout.size, -1)
        tokens[self.layout.count :] = 0
        return tokens


class _Attention(torch.autograd.Function):
    """Attention over packed tokens, with less memory traffic than the composed operators."""

    @staticmethod
    def forward(ctx: Any, q: Tensor, kv: Tensor, plan: AttentionPlan) -> Tensor:
        queries, keys = Heads(plan.queries, plan.n_heads), Heads(plan.keys, plan.n_heads)
        (q,), (k, v) = queries.split(q, 1), keys.split(kv, 2)  # [B, h, L, d] each
        scores = (q @ k.transpose(2, 3)).mul_(q.shape[3] ** -0.5)
        hidden = ~plan.mask
        scores += torch.zeros(hidden.shape, dtype=q.dtype).masked_fill_(hidden, -torch.inf)
        probs = scores.softmax(3)  # [B, h, L, L]
        keep = keep_mask(probs.shape, plan.dropout, probs.dtype) if plan.dropout else None
        kept = probs if keep is None else probs * keep
        ctx.queries, ctx.keys = queries, keys
        ctx.save_for_backward(q, k, v, probs, kept, keep)
        return queries.join((kept @ v).unsqueeze(0))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        q, k, v, probs, kept, keep = ctx.saved_tensors
        by_mixed = ctx.queries.split(grad.contiguous(), 1)[0]
        by_probs = by_mixed @ v.transpose(2, 3)
        if keep is not None:
            by_probs *= keep
        by_scores = torch._softmax_backward_data(by_probs, probs, 3, probs.dtype)
        by_scores *= q.shape[3] ** -0.5
        by_q = (by_scores @ k).unsqueeze(0)
        by_kv = torch.stack([by_scores.transpose(2, 3) @ q, kept.transpose(2, 3) @ by_mixed])
        return ctx.queries.join(by_q), ctx.keys.join(by_kv), None
