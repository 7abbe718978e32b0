"""Heads: from the vectors and the fields of a user and an item to a click probability."""

from __future__ import annotations

import numpy as np
import torch
from recbole.data.dataset import Dataset
from torch import Tensor, nn

from recbole_llm.core.config import Config
from recbole_llm.models.bahe.settings import BAHESettings
from recbole_llm.models.ctr_layers import CTRHead, FieldEmbedding, without_batch_of_one
from recbole_llm.models.ctr_towers import build_tower


class MLPHead(nn.Module):
    """The MLP of RecBole's DIN over both vectors, their product and the fields' embeddings."""

    reads_histories = False

    def __init__(self, config: Config, dataset: Dataset, settings: BAHESettings) -> None:
        super().__init__()
        fields = (dataset, settings.embedding_size, settings.pooling_mode, config["device"])
        self.user_fields = FieldEmbedding("user", *fields)
        self.item_fields = FieldEmbedding("item", *fields)
        self.mlp = CTRHead(
            settings.text_size,
            settings.mlp_hidden_size,
            context=self.user_fields.width + self.item_fields.width,
            dropout=settings.dropout_prob,
            activation=settings.activation,
            batch_norm=settings.batch_norm,
        )
        self.width = self.mlp.width  # of its widest layer

    def forward(
        self, user: Tensor, item: Tensor, users: Tensor, items: Tensor, histories: Tensor
    ) -> Tensor:
        """Vectors user, item [*, S], ids int [*], histories int [*, L], which are read only if
        `reads_histories` -> logits [*]; leading dimensions broadcast."""
        return self.mlp(user, item, self.user_fields(users), self.item_fields(items))

    def regularization(self) -> Tensor | float:
        """A penalty to be added to the loss."""
        return 0.0


class TowerHead(nn.Module):
    """One of RecBole's context models, or its DIN, whose MLP also reads both vectors and their
    product, normalized over the batch. DIN itself reads no user fields, so its MLP reads their
    embeddings, too."""

    def __init__(self, config: Config, dataset: Dataset, settings: BAHESettings) -> None:
        super().__init__()
        width = 3 * settings.text_size
        self.norm = nn.BatchNorm1d(width)
        self.reads_histories, self.user_fields = settings.head == "DIN", None
        if self.reads_histories:
            self.user_fields = FieldEmbedding(
                "user", dataset, settings.embedding_size, settings.pooling_mode, config["device"]
            )
            width += self.user_fields.width
        self.tower = build_tower(settings.head, config, dataset, width)
        self.width = self.tower.pair_floats()
        self.known = int(dataset.item_num)  # later items have no fields

    def forward(
        self, user: Tensor, item: Tensor, users: Tensor, items: Tensor, histories: Tensor
    ) -> Tensor:
        """The arguments and the result are those of `MLPHead`."""
        leading = np.broadcast_shapes(user.shape[:-1], item.shape[:-1])
        parts = [part.expand(*leading, -1) for part in (user, item, user * item)]
        feature = without_batch_of_one(self.norm, torch.cat(parts, dim=-1).flatten(0, -2))
        if self.user_fields is not None:
            user_fields = self.user_fields(users).expand(*leading, -1).flatten(0, -2)
            feature = torch.cat([feature, user_fields], dim=-1)
        seen, known = (ids.masked_fill(ids >= self.known, 0) for ids in (histories, items))
        seen = seen.expand(*leading, -1).flatten(0, -2)
        ids = (part.expand(leading).reshape(-1) for part in (users, known))
        return self.tower(seen, *ids, feature).view(leading)

    def regularization(self) -> Tensor | float:
        """A penalty to be added to the loss."""
        return self.tower.regularization()
