"""RecBole's SASRec with sequence-level training and a faster forward pass."""

from __future__ import annotations

from typing import Any

import torch
from recbole.data.dataset import Dataset
from recbole.model.sequential_recommender.sasrec import SASRec as StockSASRec
from torch import Tensor, nn

from recbole_llm.core.config import Config
from recbole_llm.layers.backbones.transformer import TransformerBackbone
from recbole_llm.models.stock.adapter import StockAdapter


class SASRec(StockAdapter, StockSASRec):  # type: ignore[misc]
    """The stock model, but sequence rows and evaluation go through `TransformerBackbone`, which
    does no work on padding."""

    def __init__(self, config: Config, dataset: Dataset) -> None:
        super().__init__(config, dataset)
        # In a list, so that the stock modules are not registered a second time.
        self._backbone = [backbone_of(self)]

    def output_norm(self) -> nn.Module:
        return self._backbone[0].output_norm()

    def user_states(self, item_seq: Tensor, mask: Tensor) -> Tensor:
        """int [B, L], bool [B, L] -> [B, L, H]."""
        return self._in_mode()(self.item_embedding(item_seq), mask)

    def states_at(self, item_seq: Tensor, mask: Tensor, wanted: Tensor) -> Tensor:
        """item_seq int [B, L], masks bool [B, L] -> [T, H]."""
        return self._in_mode().at(self.item_embedding(item_seq), mask, wanted)

    def last_states(self, item_seq: Tensor) -> Tensor:
        """int [B, L] -> [B, H]."""
        return self._in_mode().last(self.item_embedding(item_seq), item_seq != 0)

    def _in_mode(self) -> TransformerBackbone:
        return self._backbone[0].train(self.training)

    def forward(self, item_seq: Tensor, item_seq_len: Tensor) -> Tensor:
        """State after the last item, [B, H]."""
        if self.training:
            return super().forward(item_seq, item_seq_len)
        return self.last_states(item_seq)


def backbone_of(model: StockSASRec) -> TransformerBackbone:
    """A backbone made of the stock model's own modules."""
    first = model.trm_encoder.layer[0].multi_head_attention
    # A fork, so that the seed gives the stock weights; device "meta" would load torch's compiler.
    with torch.random.fork_rng(devices=()):
        backbone = TransformerBackbone(
            model.hidden_size,
            model.max_seq_length,
            n_layers=model.n_layers,
            n_heads=first.num_attention_heads,
            inner_size=model.inner_size,
            hidden_dropout_prob=model.hidden_dropout_prob,
            attn_dropout_prob=model.attn_dropout_prob,
            hidden_act=model.hidden_act,
            layer_norm_eps=model.layer_norm_eps,
        )
    backbone.position_embedding = model.position_embedding
    backbone.input_norm = model.LayerNorm
    blocks: list[Any] = list(backbone.blocks)
    for block, layer in zip(blocks, model.trm_encoder.layer, strict=True):
        theirs, forward = layer.multi_head_attention, layer.feed_forward
        attention = block.attention
        attention.query, attention.key, attention.value = theirs.query, theirs.key, theirs.value
        attention.out, block.attention_norm = theirs.dense, theirs.LayerNorm
        block.dense_1, block.dense_2 = forward.dense_1, forward.dense_2
        block.feed_forward_norm = forward.LayerNorm
    return backbone
