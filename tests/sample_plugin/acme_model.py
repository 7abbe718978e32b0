"""The user is the mean of the projected texts of the items so far."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from recbole_llm.features.attach import item_embeddings
from recbole_llm.layers.embedding import FrozenEmbedding
from recbole_llm.models.base import SequenceRecommender


class TextMean(SequenceRecommender):
    def __init__(self, config: Any, dataset: Any) -> None:
        super().__init__(config, dataset)
        table = item_embeddings(config, dataset)
        self.text = FrozenEmbedding(table.matrix, table.fingerprint)
        self.projection = nn.Linear(table.matrix.shape[1], config["hidden_size"] or 32)

    def item_vectors(self, ids: Tensor | None = None) -> Tensor:
        return self.projection(self.text.weight if ids is None else self.text(ids))

    def user_states(self, item_seq: Tensor, mask: Tensor) -> Tensor:
        real = mask.unsqueeze(-1)  # [B, L, 1]
        vectors = self.item_vectors(item_seq) * real  # [B, L, H]
        return vectors.cumsum(1) / real.cumsum(1).clamp(min=1)
