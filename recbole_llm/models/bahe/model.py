"""BAHE (Geng et al., SIGIR 2024, arXiv 2403.19347).

Legend: B batch, L history, W behaviors of a field, F behavior fields, D width of the lower half's
vectors, H width of the decoder, S ``text_size``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from recbole.data.interaction import Interaction
from torch import Tensor, nn

from recbole_llm.core.config import Config
from recbole_llm.features.attach import features_of
from recbole_llm.features.tables.reduce import WhitenedEmbedding
from recbole_llm.layers.embedding import map_distinct
from recbole_llm.models.bahe.behaviors import BEHAVIOR, BehaviorDataset, field_numbers
from recbole_llm.models.bahe.halves import coupled_llm, upper_half
from recbole_llm.models.bahe.head import MLPHead, TowerHead
from recbole_llm.models.bahe.settings import BAHESettings
from recbole_llm.models.ctr import CTRRecommender, UserContext
from recbole_llm.models.item_cache import ItemCache


def _small(layer: nn.Linear) -> nn.Linear:
    """Give a map small weights, whose directions Adam's steps of fixed size change quickly. Their
    scale does not matter if the head normalizes its inputs."""
    nn.init.normal_(layer.weight, std=0.05 / layer.in_features**0.5)
    nn.init.zeros_(layer.bias)
    return layer


class BAHE(ItemCache, CTRRecommender):
    """An LLM's lower half encodes behaviors once; its upper half, trained, reads their sequence.

    A history holds numbers of items or, below zero, of the data set's behaviors (Section 3.1,
    atomic behavior encoding). The upper half reads a user's behaviors to give the user's vector
    (Section 3.2, behavior aggregation), and an item alone to give the item's. A head that also
    reads the fields of both gives the click probability (Section 3.3).
    """

    sequence_fields = (BEHAVIOR,)

    def __init__(self, config: Config, dataset: BehaviorDataset) -> None:
        super().__init__(config, dataset)
        settings = BAHESettings.of(config)
        self.mean_pooling = settings.user_pooling == "mean"
        self.BEHAVIOR_SEQ = BEHAVIOR + config["LIST_SUFFIX"]
        features = features_of(dataset, config)
        self.items = WhitenedEmbedding(features["item_text"], settings.vector_whitening)
        self.n_fields = len(dataset.behavior_fields)
        self.field_of: Tensor
        fields = torch.from_numpy(field_numbers(dataset))
        self.register_buffer("field_of", fields, persistent=False)
        self.behaviors = None
        if dataset.behaviors:
            self.behaviors = self.items.alike(features["behavior_text"])
        self._build(config, dataset, settings)

    def _build(self, config: Config, dataset: BehaviorDataset, settings: BAHESettings) -> None:
        self.coupled = coupled_llm(config, dataset) if settings.coupled else None
        self.high = upper_half(config) if self.coupled is None else self.coupled.decoder
        width, text_width = self.high.width, self.items.dimension
        self.adapter = nn.Identity() if text_width == width else nn.Linear(text_width, width)
        size = settings.text_size
        self.user_map = _small(nn.Linear(self.n_fields * width, size))
        self.item_map = _small(nn.Linear(width, size))
        head = MLPHead if settings.head == "MLP" else TowerHead
        self.head = head(config, dataset, settings)
        self.reads_histories = self.head.reads_histories

    def history(self, interaction: Interaction) -> Tensor:
        """Return behaviors before the target, int [B, L]: numbers of items or, below zero, of the
        data set's behaviors; only items where no behavior is known, as for new users."""
        items: Tensor = super().history(interaction)
        if self.behaviors is None or self.BEHAVIOR_SEQ not in interaction:
            return items
        behaviors: Tensor = interaction[self.BEHAVIOR_SEQ][:, : items.shape[1]]
        return torch.where(behaviors > 0, -behaviors, items)

    def user_states(self, item_seq: Tensor, mask: Tensor) -> Tensor:
        """Return the user's state after every behavior: int [B, L], bool [B, L] -> [B, L, S]."""
        vectors, numbers = self.items(item_seq.clamp(min=0)), (-item_seq).clamp(min=0)
        if self.behaviors is not None:  # one of the two is the padding's zeros
            vectors = vectors + self.behaviors(numbers)
        vectors, fields = self.adapter(vectors), self.field_of[numbers]
        states = [self._field_states(vectors, mask & (fields == f)) for f in range(self.n_fields)]
        return self.user_map(torch.cat(states, dim=-1))  # [B, L, F * H] -> [B, L, S]

    def _field_states(self, vectors: Tensor, mask: Tensor) -> Tensor:
        """Return the upper half's states of a field's behaviors, at every behavior of any field."""
        counts = mask.cumsum(1)  # [B, L]
        order = mask.int().argsort(dim=1, descending=True, stable=True)  # the field's own first
        order = order[:, : max(int(counts[:, -1].max()), 1), None]
        inputs = vectors.gather(1, order.expand(-1, -1, vectors.shape[2]))  # [B, W, H]
        states: Tensor = self.high(inputs, counts[:, -1])
        if self.mean_pooling:
            slots = torch.arange(1, states.shape[1] + 1, device=states.device)
            states = states.cumsum(1) / slots[:, None]
        latest = (counts - 1).clamp(min=0)[..., None].expand(-1, -1, states.shape[2])
        return states.gather(1, latest) * (counts > 0)[..., None]

    def item_vectors(self, ids: Tensor) -> Tensor:
        """Return the upper half's vectors of single items, each encoded once: int [*] -> [*, S]."""
        if not self.training:
            return self.cached_items(self._encode_catalogue)[ids]
        return map_distinct(self._encode_items, ids)

    def _encode_items(self, ids: Tensor) -> Tensor:
        """int [N] -> [N, S]."""
        states = self.high(self.adapter(self.items(ids))[:, None])[:, 0]  # [N, H]
        return self.item_map(states)

    @torch.no_grad()
    def _encode_catalogue(self) -> Tensor:
        """All items, [n, S]."""
        return self._encode_items(torch.arange(self.n_items, device=self.items.weight.device))

    def user_context(self, interaction: Interaction) -> UserContext:
        """The users' states [B, S]; with `coupled` only their histories, int [B, L]."""
        if self.coupled is None:
            return super().user_context(interaction)
        return UserContext.without_states(self.history(interaction))

    def logits(self, context: UserContext, users: Tensor, items: Tensor) -> Tensor:
        """Logits of (user, item) pairs: [*, S] and int [*, L], int [*], int [*] -> [*]."""
        user, histories = context
        if self.coupled is None:
            item = self.item_vectors(items)
        else:
            leading = np.broadcast_shapes(histories.shape[:-1], items.shape)
            flat = histories.expand(*leading, -1).flatten(0, -2)
            user_states, item_states = self.coupled(flat, items.expand(leading).flatten())
            user = self.user_map(user_states).view(*leading, -1)
            item = self.item_map(item_states).view(*leading, -1)
        return self.head(user, item, users, items, histories)

    def calculate_loss(self, interaction: Interaction) -> Tensor:
        """Binary cross-entropy, mean over the labeled pairs of a batch, scalar."""
        return super().calculate_loss(interaction) + self.head.regularization()

    @staticmethod
    def interaction_fields(keys: Mapping[str, Any]) -> list[str]:
        """Return the fields of the interactions that these keys make behaviors of."""
        return BAHESettings.of(keys).behavior_fields()

    @property
    def takes_items(self) -> bool:
        """Whether `add_items` works; not with `coupled`, which reads words instead of vectors."""
        return self.coupled is None

    def add_items(self, text: Tensor) -> None:
        """Add items after training; see `TextItemModel`. Their fields are unknown."""
        self.items.append(text)
        self.items_added(len(text))

    def pair_floats(self) -> int:
        """See `CTRRecommender`; the coupled LLM bounds its own passes."""
        return self.head.width + 2 * self.high.width
