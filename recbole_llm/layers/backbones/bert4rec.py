"""BERT4Rec's backbone: the transformer with an output net."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from recbole_llm.layers.backbones.transformer import TransformerBackbone, initialise


class BERT4RecBackbone(TransformerBackbone):
    """BERT4Rec (Sun et al. 2019), causal unless `bidirectional`.

    The transformer's states go through the paper's output net, GELU(W h + b) (eq. 7), with
    RecBole's layer norm after it. Arguments as of `TransformerBackbone`.
    """

    def __init__(
        self,
        hidden_size: int,
        max_length: int,
        *,
        n_layers: int = 2,
        n_heads: int = 2,
        inner_size: int | None = None,
        hidden_dropout_prob: float = 0.2,
        attn_dropout_prob: float = 0.2,
        hidden_act: str = "gelu",
        layer_norm_eps: float = 1e-12,
        initializer_range: float = 0.02,
        position: bool = True,
        bidirectional: bool = False,
    ) -> None:
        super().__init__(
            hidden_size,
            max_length,
            n_layers=n_layers,
            n_heads=n_heads,
            inner_size=inner_size,
            hidden_dropout_prob=hidden_dropout_prob,
            attn_dropout_prob=attn_dropout_prob,
            hidden_act=hidden_act,
            layer_norm_eps=layer_norm_eps,
            initializer_range=initializer_range,
            position=position,
            bidirectional=bidirectional,
        )
        self.output_dense = nn.Linear(hidden_size, hidden_size)
        self.output_norm = nn.LayerNorm(hidden_size, layer_norm_eps)
        initialise(self.output_dense, initializer_range)

    def forward(self, emb: Tensor, mask: Tensor) -> Tensor:
        """emb [B, L, H], mask bool [B, L] (True = real) -> [B, L, H]."""
        return self._output(super().forward(emb, mask))

    def last(self, emb: Tensor, mask: Tensor) -> Tensor:
        """emb [B, L, H], mask bool [B, L] -> [B, H]."""
        return self._output(super().last(emb, mask))

    def at(self, emb: Tensor, mask: Tensor, wanted: Tensor) -> Tensor:
        """emb [B, L, H], masks bool [B, L] -> [T, H]."""
        return self._output(super().at(emb, mask, wanted))

    def _output(self, states: Tensor) -> Tensor:
        return self.output_norm(F.gelu(self.output_dense(states)))
