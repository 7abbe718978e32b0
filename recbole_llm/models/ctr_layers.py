"""Parts of the CTR models: embeddings of fields, and the head."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
import torch
from recbole.data.dataset import Dataset
from recbole.model.init import xavier_normal_initialization
from recbole.model.layers import ContextSeqEmbAbstractLayer, MLPLayers
from torch import Tensor, nn


class CTRHead(nn.Module):
    """An MLP from [user ; item ; user * item ; further features] to a logit, as in DIN.

    Args:
        size: H, width of the user's and of the item's vector.
        hidden: widths of the hidden layers.
        context: C, width of the further features.
        dropout: before each layer.
        activation: name of one of RecBole's activations.
        batch_norm: whether input and hidden layers are normalized over the batch.
    """

    def __init__(
        self,
        size: int,
        hidden: Sequence[int],
        context: int = 0,
        dropout: float = 0.0,
        activation: str = "Dice",
        batch_norm: bool = True,
    ) -> None:
        super().__init__()
        widths = [3 * size + context, *hidden]
        self.width = max(widths)
        norm = nn.BatchNorm1d(widths[0]) if batch_norm else nn.Identity()
        layers = MLPLayers(widths, dropout, activation.lower(), bn=batch_norm)
        self.mlp = nn.Sequential(norm, layers)
        self.output = nn.Linear(widths[-1], 1)
        self.apply(xavier_normal_initialization)

    def forward(self, user: Tensor, item: Tensor, *context: Tensor) -> Tensor:
        """user [*, H], item [*, H], context [*, C_i] each -> logits [*]; leading dimensions
        broadcast."""
        parts = [user, item, user * item, *context]
        leading = np.broadcast_shapes(*(part.shape[:-1] for part in parts))
        inputs = torch.cat([part.expand(*leading, -1) for part in parts], dim=-1)
        hidden = without_batch_of_one(self.mlp, inputs.flatten(0, -2))
        return self.output(hidden).view(leading)


def without_batch_of_one(mlp: nn.Module, inputs: Tensor) -> Tensor:
    """Return mlp(inputs), [N, W] -> [N, W']; a single row is not normalized over the batch.

    A single row has no variance over the batch, and RecBole's last batch may have one row. With
    synchronized statistics the other processes have rows, too, and wait for this process.
    """
    synced = any(isinstance(part, nn.SyncBatchNorm) for part in mlp.modules())
    alone = mlp.training and len(inputs) == 1 and not synced
    mlp.train(mlp.training and not alone)
    hidden: Tensor = mlp(inputs)
    mlp.train(mlp.training or alone)
    return hidden


def fields_of(layer: ContextSeqEmbAbstractLayer, side: str, users: Tensor, items: Tensor) -> Tensor:
    """Embeddings of one side's fields, by RecBole's layer: int [N], int [N, *] -> [N, F, E]."""
    parts = [part[side] for part in layer.embed_input_fields(users, items)]
    return torch.cat([part for part in parts if part is not None], dim=-2)


class FieldEmbedding(ContextSeqEmbAbstractLayer):  # type: ignore[misc]
    """Embeddings of all fields of the users or of the items, by id, as in RecBole's DIN.

    Token fields (including the id) and token sequences are embedded, and those float fields that
    ``numerical_features`` names.

    Args:
        dataset: the training split.
        embedding_size: E, width of each field's embedding.
        pooling_mode: how a sequence becomes one vector: mean, max or sum.
        device: where the fields of all users or items are kept.
    """

    def __init__(
        self,
        side: Literal["user", "item"],
        dataset: Dataset,
        embedding_size: int,
        pooling_mode: str,
        device: torch.device,
    ) -> None:
        super().__init__()
        self.side, self.types = side, [side]
        self.device, self.embedding_size, self.pooling_mode = device, embedding_size, pooling_mode
        features = dataset.get_user_feature() if side == "user" else dataset.get_item_feature()
        self.user_feat = self.item_feat = features.to(device)
        self.field_names = {side: list(features.interaction)}
        self.dataset = dataset
        self.get_fields_name_dim()
        self.get_embedding()
        self.known = len(features)  # number of users or items; later ones have no fields
        self.dataset = None  # a deep copy of the model stays small
        self.apply(xavier_normal_initialization)

    @property
    def width(self) -> int:
        """Width of the result: number of fields times E."""
        return int(self.num_feature_field[self.side]) * self.embedding_size

    def forward(self, ids: Tensor) -> Tensor:
        """int [*] -> [*, width]; zeros for ids that came after training."""
        later = ids >= self.known
        flat = ids.masked_fill(later, 0).reshape(-1)
        fields = fields_of(self, self.side, flat, flat)  # [N, F, E]
        return fields.view(*ids.shape, self.width).masked_fill(later[..., None], 0)
