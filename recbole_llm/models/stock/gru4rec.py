"""RecBole's GRU4Rec with sequence-level training."""

from __future__ import annotations

from recbole.model.sequential_recommender.gru4rec import GRU4Rec as StockGRU4Rec
from torch import Tensor

from recbole_llm.models.stock.adapter import StockAdapter


class GRU4Rec(StockAdapter, StockGRU4Rec):  # type: ignore[misc]
    """The stock model; sequence rows take the GRU's state at every position."""

    def user_states(self, item_seq: Tensor, mask: Tensor) -> Tensor:
        """int [B, L], bool [B, L] (right-padded) -> [B, L, H]."""
        emb = self.emb_dropout(self.item_embedding(item_seq))
        return self.dense(self.gru_layers(emb)[0])
