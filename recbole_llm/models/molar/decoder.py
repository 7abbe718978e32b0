"""Stand-in."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from recbole_llm.layers.packing import run_left_aligned


class Decoder(nn.Module):
    def __init__(self, kind: str, width: int, layers: int, heads: int, inner: int, dropout: float, length: int) -> None:
        super().__init__()
        from transformers import AutoModel, GPT2Config, LlamaConfig

        config: Any
        if kind == "gpt2":
            config = GPT2Config(vocab_size=1, n_positions=length, n_embd=width, n_layer=layers, n_head=heads, n_inner=inner,
              resid_pdrop=dropout, embd_pdrop=dropout, attn_pdrop=dropout)
        else:
            config = LlamaConfig(vocab_size=1, hidden_size=width, num_hidden_layers=layers, num_attention_heads=heads, intermediate_size=inner, attention_dropout=dropout, max_position_embeddings=length)
        self.model = AutoModel.from_config(config)
        self.width = width

    def forward(self, emb: Tensor, mask: Tensor) -> Tensor:
        return run_left_aligned(lambda x: self.model(inputs_embeds=x, use_cache=False).last_hidden_state, emb, mask)
