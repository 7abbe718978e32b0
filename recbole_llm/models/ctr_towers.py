"""RecBole's CTR models, with a further feature as an input of their MLP."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any

import torch
from recbole.config import Config
from recbole.data.dataset import Dataset
from recbole.data.interaction import Interaction
from recbole.model.context_aware_recommender import DCN, AutoInt, DeepFM
from recbole.model.layers import MLPLayers
from recbole.utils import FeatureSource
from torch import Tensor, nn

from recbole_llm.data.rows.interaction import take
from recbole_llm.models.ctr_layers import fields_of, without_batch_of_one
from recbole_llm.models.stock.din import DIN

_SOURCES = frozenset(
    (FeatureSource.USER_ID, FeatureSource.USER, FeatureSource.ITEM_ID, FeatureSource.ITEM)
)


class FedMLP(MLPLayers):  # type: ignore[misc]
    """A new MLP like RecBole's `mlp` that also reads `feature` [N, `width`], after its own
    input."""

    def __init__(self, mlp: MLPLayers, width: int) -> None:
        sizes = [mlp.layers[0] + width, *mlp.layers[1:]]
        super().__init__(sizes, mlp.dropout, mlp.activation, mlp.use_bn)
        self.feature: Tensor | None = None  # to be set before each pass

    def forward(self, inputs: Tensor) -> Tensor:
        """[N, W] -> [N, W']."""
        assert self.feature is not None
        whole = torch.cat([inputs, self.feature], dim=-1)
        return without_batch_of_one(self.mlp_layers, whole)


class Tower(nn.Module):
    """A CTR model of RecBole that gives logits of pairs, and its embeddings of users and items.

    Args:
        mlp: name of the model's MLP, which is replaced by a wider one.
        width: C, length of the further feature.
    """

    user_width: int
    item_width: int

    def __init__(self, net: Any, mlp: str, width: int) -> None:
        super().__init__()
        self.net = net
        self.mlp = FedMLP(getattr(net, mlp), width)
        self.mlp.apply(net._init_weights)
        setattr(net, mlp, self.mlp)

    def forward(self, histories: Tensor, users: Tensor, items: Tensor, feature: Tensor) -> Tensor:
        """Logits: int [N, L], int [N], int [N], [N, C] -> [N]."""
        self.mlp.feature = feature
        try:
            return self._logits(histories, users, items)
        finally:
            self.mlp.feature = None

    def regularization(self) -> Tensor | float:
        """A penalty that the model adds to its loss."""
        return 0.0

    def pair_floats(self) -> int:
        """Return the width, in floats, of the widest layer for a pair."""
        return int(max(self.mlp.layers))

    @abstractmethod
    def _logits(self, histories: Tensor, users: Tensor, items: Tensor) -> Tensor: ...

    @abstractmethod
    def user_vectors(self, users: Tensor) -> Tensor:
        """int [M] -> [M, user_width]."""

    @abstractmethod
    def item_vectors(self, items: Tensor) -> Tensor:
        """int [M] -> [M, item_width]."""


class DINTower(Tower):
    """DIN, which attends from the target to the history."""

    def __init__(self, config: Config, dataset: Dataset, width: int) -> None:
        super().__init__(DIN(config, dataset), "dnn_mlp_layers", width)
        embeddings = self.net.embedding_layer
        embeddings.dataset = None  # a deep copy of the model stays small
        self.user_width, self.item_width = (
            int(embeddings.num_feature_field[side]) * embeddings.embedding_size
            for side in ("user", "item")
        )

    def _logits(self, histories: Tensor, users: Tensor, items: Tensor) -> Tensor:
        slots = torch.arange(1, histories.shape[1] + 1, device=histories.device)
        lengths = torch.where(histories != 0, slots, 0).amax(1)  # zeros may lie between items
        return self.net(users, histories, lengths, items)

    def pair_floats(self) -> int:
        """See `Tower`; the attention holds the whole history at once."""
        return super().pair_floats() + int(self.net.max_seq_length * max(self.net.att_list))

    def user_vectors(self, users: Tensor) -> Tensor:
        nobodys = users.new_zeros(len(users), 1)
        return fields_of(self.net.embedding_layer, "user", users, nobodys).flatten(1)

    def item_vectors(self, items: Tensor) -> Tensor:
        nobody = torch.zeros_like(items)
        return fields_of(self.net.embedding_layer, "item", nobody, items[:, None]).flatten(1)


class ContextTower(Tower):
    """DeepFM, DCN or AutoInt over the fields of the user and of the item."""

    def __init__(self, name: str, config: Config, dataset: Dataset, width: int) -> None:
        net = {"DeepFM": DeepFM, "DCN": DCN, "AutoInt": AutoInt}[name]
        super().__init__(net(config, _UsersAndItems(dataset)), "mlp_layers", width)
        features = (dataset.get_user_feature(), dataset.get_item_feature())
        self.users, self.items = (f.to(config["device"]) for f in features)
        net = self.net
        names = [  # in the order of the embeddings
            *net.token_seq_field_names, *net.token_field_names,
            *net.float_seq_field_names, *net.float_field_names,
        ]  # fmt: skip
        self.of_user, self.of_item = (
            [i for i, name in enumerate(names) if name in side] for side in (self.users, self.items)
        )
        self.user_width = len(self.of_user) * net.embedding_size
        self.item_width = len(self.of_item) * net.embedding_size

    def _rows(self, users: Tensor, items: Tensor) -> Interaction:
        columns = (take(self.users, users).interaction, take(self.items, items).interaction)
        return Interaction({**columns[0], **columns[1]})

    def _logits(self, histories: Tensor, users: Tensor, items: Tensor) -> Tensor:
        return self.net(self._rows(users, items))

    def regularization(self) -> Tensor | float:
        if not isinstance(self.net, DCN):
            return 0.0
        return self.net.reg_weight * self.net.reg_loss(self.net.cross_layer_w)

    def user_vectors(self, users: Tensor) -> Tensor:
        return self._fields(users, torch.zeros_like(users), self.of_user)

    def item_vectors(self, items: Tensor) -> Tensor:
        return self._fields(torch.zeros_like(items), items, self.of_item)

    def _fields(self, users: Tensor, items: Tensor, which: list[int]) -> Tensor:
        fields: Tensor = self.net.concat_embed_input_fields(self._rows(users, items))  # [M, F, E]
        return torch.cat([fields[:, i] for i in which], dim=1)


class _UsersAndItems:
    """The part of a data set that RecBole's context models read, without fields of interactions,
    which candidates lack."""

    def __init__(self, dataset: Dataset) -> None:
        self._dataset = dataset
        self.field2type, self.num = dataset.field2type, dataset.num

    def fields(self, ftype: Any = None, source: Any = None) -> list[str]:
        """Names of the fields of users and items, as RecBole's `Dataset.fields`."""
        return self._dataset.fields(ftype, _SOURCES.intersection(source or _SOURCES))


def build_tower(name: str, config: Config, dataset: Dataset, width: int) -> Tower:
    """Build the backbone called `name`, whose MLP also reads a feature of `width`."""
    if name == "DIN":
        return DINTower(config, dataset, width)
    return ContextTower(name, config, dataset, width)
