"""A model whose user vector is the mean of the projected texts of the items so far."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from recbole_llm import features_of
from recbole_llm.core.settings import Count, Positive
from recbole_llm.layers.embedding import FrozenEmbedding
from recbole_llm.models.base import SequenceRecommender
from recbole_llm.models.settings import SequentialSettings


class TextMeanSettings(SequentialSettings):
    """TextMean's keys, and those of every sequential model with other defaults."""

    hidden_size: Count = 32
    """Width of the projected texts."""
    learning_rate: Positive = 0.01
    """Learning rate."""


class TextMean(SequenceRecommender):
    """Scores an item by its projected text times the mean projected text of the history."""

    def __init__(self, config: Any, dataset: Any) -> None:
        super().__init__(config, dataset)
        settings = TextMeanSettings.of(config)
        table = features_of(dataset, config)["item_text"]  # one row per item; row 0 is the padding
        self.text = FrozenEmbedding(table.matrix, table.fingerprint)
        self.projection = nn.Linear(table.matrix.shape[1], settings.hidden_size)

    def item_vectors(self, ids: Tensor | None = None) -> Tensor:
        return self.projection(self.text.weight if ids is None else self.text(ids))

    def user_states(self, item_seq: Tensor, mask: Tensor) -> Tensor:
        real = mask.unsqueeze(-1)  # [B, L, 1]
        vectors = self.item_vectors(item_seq) * real  # [B, L, H]
        return vectors.cumsum(1) / real.cumsum(1).clamp(min=1)
