"""The small LLaMA-style decoder that reads the examples and then the query."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

WIDTH_STEP = 32  # which divides the feed-forward net's width
EPS = 1e-5  # of the norms
THETA = 10_000.0  # base of the rotary frequencies


def rotary_table(length: int, size: int, device: torch.device | None = None) -> Tensor:
    """Rotations exp(i t theta^(-2j/d)) of position t and pair j, complex128 [length, size / 2]."""
    pairs = torch.arange(0, size, 2, dtype=torch.float64, device=device) / size
    angles = torch.arange(length, dtype=torch.float64, device=device)[:, None] * THETA**-pairs
    return torch.polar(torch.ones_like(angles), angles)


def rotate(x: Tensor, turns: Tensor) -> Tensor:
    """Rotate the interleaved pairs (2j, 2j + 1) of x [*, T, d] by `turns` [T, d / 2]."""
    numbers = x if x.dtype == torch.float64 else x.float()  # half precision has no complex type
    pairs = torch.view_as_complex(numbers.view(*x.shape[:-1], -1, 2))
    return torch.view_as_real(pairs * turns.to(pairs.dtype)).flatten(-2).to(x.dtype)


class DecoderBlock(nn.Module):
    """h = x + A(norm(x)); h + W2(silu(W1 n) * W3 n) with n = norm(h); no biases, no dropout."""

    def __init__(self, size: int, n_heads: int, inner_size: int) -> None:
        super().__init__()
        self.n_heads = n_heads
        self.attention_norm = nn.RMSNorm(size, EPS)
        self.feed_forward_norm = nn.RMSNorm(size, EPS)
        self.qkv = nn.Linear(size, 3 * size, bias=False)
        self.out = nn.Linear(size, size, bias=False)
        self.gate_up = nn.Linear(size, 2 * inner_size, bias=False)  # W1 and W3
        self.down = nn.Linear(inner_size, size, bias=False)  # W2

    def forward(
        self, x: Tensor, turns: Tensor, allowed: Tensor | None, at: Tensor | None = None
    ) -> Tensor:
        """[N, T, H] -> [N, P, H].

        Args:
            turns: rotations of the positions, from `rotary_table`.
            allowed: what each wanted position sees, bool [N or 1, 1, P, T]; None: a causal mask.
            at: the P positions whose states are wanted, int [P]; None: all T.
        """
        normed = self.attention_norm(x)
        if at is None:
            query, key, value = self._split_heads(self.qkv(normed), 3)
            query_turns = turns
        else:
            q_weight, kv_weight = self.qkv.weight.tensor_split([x.shape[-1]])
            (query,) = self._split_heads(F.linear(normed[:, at], q_weight), 1)
            key, value = self._split_heads(F.linear(normed, kv_weight), 2)
            x, query_turns = x[:, at], turns[at]
        attended = F.scaled_dot_product_attention(
            rotate(query, query_turns),
            rotate(key, turns),
            value,
            allowed,
            is_causal=allowed is None,
        )
        x = x + self.out(attended.transpose(1, 2).flatten(-2))
        gate, up = self.gate_up(self.feed_forward_norm(x)).chunk(2, dim=-1)
        return x + self.down(F.silu(gate) * up)

    def _split_heads(self, x: Tensor, parts: int) -> Tensor:
        """[N, T, parts * H] -> [parts, N, heads, T, d]."""
        return x.view(*x.shape[:-1], parts, self.n_heads, -1).permute(2, 0, 3, 1, 4)


class Decoder(nn.Module):
    """Causal pre-norm decoder with rotary positions; 2 * n_heads divides the size H."""

    def __init__(self, size: int, n_heads: int = 2, n_layers: int = 2) -> None:
        super().__init__()
        least = 2 * 2 * size // 3  # two thirds of ff = 2 H
        inner = WIDTH_STEP * -(-least // WIDTH_STEP)
        self.blocks = nn.ModuleList(DecoderBlock(size, n_heads, inner) for _ in range(n_layers))
        self.norm = nn.RMSNorm(size, EPS)
        self.head_size = size // n_heads

    def forward(self, x: Tensor, present: Tensor | None = None, at: Tensor | None = None) -> Tensor:
        """States of tokens.

        Args:
            x: [N, T, H].
            present: bool [N, T], tokens that others may see; None: all.
            at: positions whose states are wanted, int [P]; the last block leaves out the others'
                queries and feed-forward nets. None: all T.

        Returns:
            [N, P, H]; state t depends on the tokens up to t.
        """
        turns = rotary_table(x.shape[1], self.head_size, x.device)
        allowed = None if present is None else _allowed_keys(present)
        *first, last = self.blocks
        for block in first:
            x = block(x, turns, allowed)
        if at is not None:
            if allowed is None:
                allowed = _allowed_keys(x.new_ones(1, x.shape[1], dtype=torch.bool))
            allowed = allowed[..., at, :]
        return self.norm(last(x, turns, allowed, at))


def _allowed_keys(present: Tensor) -> Tensor:
    """bool [N, T] -> [N, 1, T, T]; every token sees itself, so that none is left without a key."""
    triangle = present.new_ones(present.shape[1], present.shape[1]).tril()
    return (present[:, None, None, :] & triangle) | triangle.triu()
