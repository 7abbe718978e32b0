"""A BERT over packed tokens: exact, and without any work on padding.

Sequences are concatenated in a matrix [T, H]. All products run over the whole matrix, attention
over each run of sequences of the same length. Weights are packed for oneDNN, whose float32
products use AVX-512 on all CPUs that have it; MKL, torch's default, does so only on Intel's.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

Linear = Callable[[Tensor, bool], Tensor]  # (x [T, I], whether GELU follows) -> [T, O]
Pair = tuple[Tensor, Tensor]  # weight, bias
Runs = Sequence[tuple[int, int]]  # (count, length) of neighboring sequences of the same length
_PACK_ROWS = 4096  # rows of x that oneDNN lays the weight out for; any number works


@dataclass(frozen=True)
class _Layer:
    qkv: Linear
    attention_out: Linear
    attention_norm: Pair
    up: Linear
    down: Linear
    norm: Pair


class PackedBert:
    """A BERT for inference, from transformers' ``config.json`` and a state dict with or without the
    prefix ``bert.``. Products are computed in `dtype`, everything else in float32."""

    def __init__(
        self, config: Mapping[str, Any], weights: Mapping[str, Tensor], dtype: torch.dtype,
        device: str,
    ) -> None:  # fmt: skip
        self.heads, self.hidden = int(config["num_attention_heads"]), int(config["hidden_size"])
        self.eps = float(config.get("layer_norm_eps", 1e-12))
        self.dtype, self.device = dtype, torch.device(device)
        named = {k.removeprefix("bert."): v.float().to(self.device) for k, v in weights.items()}
        self.words = named["embeddings.word_embeddings.weight"]  # [V, H]
        types = named["embeddings.token_type_embeddings.weight"]  # a single text has type 0
        self.positions = named["embeddings.position_embeddings.weight"] + types[0]
        self.embedding_norm = _pair(named, "embeddings.LayerNorm")
        count = int(config["num_hidden_layers"])
        self.layers = [self._layer(named, f"encoder.layer.{i}.") for i in range(count)]

    def _layer(self, weights: Mapping[str, Tensor], prefix: str) -> _Layer:
        def packed(*names: str) -> Linear:
            pairs = [_pair(weights, prefix + name) for name in names]
            weight, bias = (torch.cat(part) for part in zip(*pairs, strict=True))
            return linear(weight, bias, self.dtype)

        return _Layer(
            qkv=packed(*(f"attention.self.{name}" for name in ("query", "key", "value"))),
            attention_out=packed("attention.output.dense"),
            attention_norm=_pair(weights, f"{prefix}attention.output.LayerNorm"),
            up=packed("intermediate.dense"),
            down=packed("output.dense"),
            norm=_pair(weights, f"{prefix}output.LayerNorm"),
        )

    def __call__(self, ids: Tensor, runs: Runs) -> Tensor:
        """Token ids of all sequences, int64 [T], and their runs -> last states, float32 [T, H]."""
        positions = torch.cat([torch.arange(length).repeat(count) for count, length in runs])
        x = F.embedding(ids.to(self.device), self.words)
        x = x + F.embedding(positions.to(self.device), self.positions)
        x = self._norm(x, self.embedding_norm)
        for layer in self.layers:
            attended = self._attend(layer.qkv(x.to(self.dtype), False), runs)
            x = self._norm(x + layer.attention_out(attended, False), layer.attention_norm)
            up = layer.up(x.to(self.dtype), True)
            x = self._norm(x + layer.down(up, False), layer.norm)
        return x

    def _attend(self, qkv: Tensor, runs: Runs) -> Tensor:
        """[T, 3H] -> [T, H], within each sequence."""
        out = []
        parts = torch.split(qkv, [count * length for count, length in runs])
        for part, (count, length) in zip(parts, runs, strict=True):
            heads = part.view(count, length, 3, self.heads, self.hidden // self.heads)
            q, k, v = heads.permute(2, 0, 3, 1, 4)  # each [count, heads, length, H / heads]
            mixed = F.scaled_dot_product_attention(q, k, v)
            out.append(mixed.transpose(1, 2).reshape(count * length, self.hidden))
        return torch.cat(out)

    def _norm(self, x: Tensor, parameters: Pair) -> Tensor:
        return F.layer_norm(x.float(), (self.hidden,), *parameters, self.eps)


def _pair(weights: Mapping[str, Tensor], name: str) -> Pair:
    return weights[f"{name}.weight"], weights[f"{name}.bias"]


def linear(weight: Tensor, bias: Tensor, dtype: torch.dtype) -> Linear:
    """x W^T + b for a constant W [O, I], through oneDNN's packed layout where there is one."""
    weight, bias = weight.to(dtype).contiguous(), bias.to(dtype)

    def plain(x: Tensor, gelu: bool) -> Tensor:
        y = F.linear(x, weight, bias)
        return F.gelu(y) if gelu else y

    return (_packed(weight, bias) if weight.device.type == "cpu" else None) or plain


def _packed(weight: Tensor, bias: Tensor) -> Linear | None:
    """The product through oneDNN, or None if this torch or CPU does not support it."""
    try:
        packed = torch.ops.mkldnn._reorder_linear_weight(weight, _PACK_ROWS)
        product = torch.ops.mkldnn._linear_pointwise

        def call(x: Tensor, gelu: bool) -> Tensor:
            return product(x, packed, bias, "gelu" if gelu else "none", [], "none")

        probe = torch.linspace(-1, 1, 2 * weight.shape[1]).view(2, -1).to(weight.dtype)
        expected = F.linear(probe, weight, bias).float()
        error = 1e-3 if weight.dtype == torch.float32 else 0.05
        close = torch.allclose(call(probe, False).float(), expected, rtol=error, atol=error)
        return call if close else None
    except (AttributeError, RuntimeError):
        return None
