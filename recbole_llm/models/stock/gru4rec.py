"""RecBole's GRU4Rec with sequence-level training."""

from __future__ import annotations

from typing import Any

import torch
from recbole.model.sequential_recommender.gru4rec import GRU4Rec as StockGRU4Rec
from torch import Tensor, nn

from recbole_llm.layers.matmul import scores
from recbole_llm.models.base import SequenceTraining


class GRU4Rec(SequenceTraining, StockGRU4Rec):  # type: ignore[misc]
    """The stock model: its parameters, checkpoint, initial values and scores.

    Prefix rows train exactly as stock; sequence rows take the GRU's state at every position.
    """

    softmax_over_padding = True  # as stock

    def __init__(self, config: Any, dataset: Any) -> None:
        super().__init__(config, dataset)
        self.name_sequence_fields(config)

    def user_states(self, item_seq: Tensor, mask: Tensor) -> Tensor:
        """int [B, L], bool [B, L] (right-padded) -> [B, L, H]."""
        emb = self.emb_dropout(self.item_embedding(item_seq))
        states: Tensor = self.dense(self.gru_layers(emb)[0])
        return states

    def item_vectors(self, ids: Tensor | None = None) -> Tensor:
        """int [*] -> [*, H]; None: the whole table [n, H]."""
        table: nn.Embedding = self.item_embedding
        return table.weight if ids is None else table(ids)

    @torch.no_grad()
    def full_sort_predict(self, interaction: Any) -> Tensor:
        """Scores of the whole catalogue, [B, n]."""
        states = self.forward(interaction[self.ITEM_SEQ], interaction[self.ITEM_SEQ_LEN])
        return scores(states, self.item_embedding.weight)

    def calculate_loss(self, interaction: Any) -> Tensor:
        """Mean loss over a batch's targets, scalar."""
        if self.POS_ITEM_SEQ in interaction:
            return SequenceTraining.calculate_loss(self, interaction)
        loss: Tensor = StockGRU4Rec.calculate_loss(self, interaction)
        return loss
