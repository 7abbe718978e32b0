"""RecBole's SASRec with sequence-level training and a faster forward pass."""

from __future__ import annotations

from typing import Any

import torch
from recbole.model.sequential_recommender.sasrec import SASRec as StockSASRec
from torch import Tensor, nn

from recbole_llm.layers.backbones.transformer import TransformerBackbone
from recbole_llm.layers.matmul import scores
from recbole_llm.models.base import SequenceTraining


class SASRec(SequenceTraining, StockSASRec):  # type: ignore[misc]
    """The stock model: its parameters, checkpoint, initial values and scores.

    Prefix rows train exactly as stock. Sequence rows, and evaluation, go through
    `TransformerBackbone`, which does no work on padding.
    """

    softmax_over_padding = True  # as stock

    def __init__(self, config: Any, dataset: Any) -> None:
        super().__init__(config, dataset)
        self.name_sequence_fields(config)
        # In a list, so that the stock modules are not registered a second time.
        self._backbone = [backbone_of(self)]

    def user_states(self, item_seq: Tensor, mask: Tensor) -> Tensor:
        """int [B, L], bool [B, L] -> [B, L, H]."""
        backbone = self._backbone[0].train(self.training)
        states: Tensor = backbone(self.item_embedding(item_seq), mask)
        return states

    def item_vectors(self, ids: Tensor | None = None) -> Tensor:
        """int [*] -> [*, H]; None: the whole table [n, H]."""
        table: nn.Embedding = self.item_embedding
        return table.weight if ids is None else table(ids)

    def forward(self, item_seq: Tensor, item_seq_len: Tensor) -> Tensor:
        """State after the last item, [B, H]."""
        if self.training:
            states: Tensor = super().forward(item_seq, item_seq_len)
            return states
        return self.last_states(item_seq)

    @torch.no_grad()
    def full_sort_predict(self, interaction: Any) -> Tensor:
        """Scores of the whole catalogue, [B, n]."""
        states = self.forward(interaction[self.ITEM_SEQ], interaction[self.ITEM_SEQ_LEN])
        return scores(states, self.item_embedding.weight)

    def calculate_loss(self, interaction: Any) -> Tensor:
        """Mean loss over a batch's targets, scalar."""
        if self.POS_ITEM_SEQ in interaction:
            return SequenceTraining.calculate_loss(self, interaction)
        loss: Tensor = StockSASRec.calculate_loss(self, interaction)
        return loss


def backbone_of(model: StockSASRec) -> TransformerBackbone:
    """A backbone made of the stock model's own modules."""
    first = model.trm_encoder.layer[0].multi_head_attention
    with torch.device("meta"):  # no random numbers are drawn: the seed gives stock's weights
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
