"""What makes a click probability of the vectors, and of the fields, of a user and an item."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn

from recbole_llm.models.bahe.settings import BAHESettings
from recbole_llm.models.ctr_layers import CTRHead, FieldEmbedding, without_batch_of_one
from recbole_llm.models.ctr_towers import ContextTower

if TYPE_CHECKING:
    from recbole.data.dataset import Dataset

    from recbole_llm.core.config import Config


class MLPHead(nn.Module):
    """The MLP of RecBole's DIN over both vectors, their product and the fields' embeddings."""

    def __init__(self, config: Config, dataset: Dataset, settings: BAHESettings) -> None:
        super().__init__()
        fields = (dataset, settings.embedding_size, settings.pooling_mode, config["device"])
        self.user_fields = FieldEmbedding("user", *fields)
        self.item_fields = FieldEmbedding("item", *fields)
        self.mlp = CTRHead(
            settings.text_size,
            settings.mlp_hidden_size,
            self.user_fields.width + self.item_fields.width,
            settings.dropout_prob,
            settings.activation,
            settings.batch_norm,
        )
        self.width = self.mlp.width  # of its widest layer

    def forward(self, user: Tensor, item: Tensor, users: Tensor, items: Tensor) -> Tensor:
        """user, item [*, S], their ids int [*] -> logits [*]; leading dimensions broadcast."""
        logits: Tensor = self.mlp(user, item, self.user_fields(users), self.item_fields(items))
        return logits

    def regularisation(self) -> Tensor | float:
        """What is added to the loss."""
        return 0.0


class TowerHead(nn.Module):
    """One of RecBole's context models over the fields, whose MLP reads both vectors and their
    product, normalised over the batch, besides."""

    def __init__(self, config: Config, dataset: Dataset, settings: BAHESettings) -> None:
        super().__init__()
        width = 3 * settings.text_size
        self.norm = nn.BatchNorm1d(width)
        self.tower = ContextTower(settings.head, config, dataset, width)
        self.width = max(self.tower.mlp.layers)
        self.known = int(dataset.item_num)  # later items have no fields

    def forward(self, user: Tensor, item: Tensor, users: Tensor, items: Tensor) -> Tensor:
        """As of `MLPHead`."""
        leading = np.broadcast_shapes(user.shape[:-1], item.shape[:-1])
        parts = [part.expand(*leading, -1) for part in (user, item, user * item)]
        feature = without_batch_of_one(self.norm, torch.cat(parts, dim=-1).flatten(0, -2))
        known = items.masked_fill(items >= self.known, 0)
        ids = (part.expand(leading).reshape(-1) for part in (users, known))
        logits: Tensor = self.tower(torch.empty(0), *ids, feature)
        return logits.view(leading)

    def regularisation(self) -> Tensor | float:
        """What is added to the loss."""
        return self.tower.regularisation()
