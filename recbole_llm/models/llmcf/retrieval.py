"""LLM-CF (Sun et al., CIKM 2024) for retrieval: a sequence backbone whose states gain w."""

from __future__ import annotations

import torch
from recbole.data.dataset import Dataset
from recbole.data.interaction import Interaction
from torch import Tensor, nn

from recbole_llm.core.config import Config
from recbole_llm.layers.backbones import backbone_from_settings
from recbole_llm.layers.embedding import map_distinct_rows
from recbole_llm.layers.packing import last_slots
from recbole_llm.models.base import SequenceRecommender
from recbole_llm.models.llmcf.context import build_in_context
from recbole_llm.models.llmcf.memory import ExampleStore
from recbole_llm.models.llmcf.search import ExampleSearch
from recbole_llm.models.llmcf.settings import LLMCFRetrievalSettings


class LLMCFRetrieval(SequenceRecommender):
    """state = backbone + feature_weight * w at every position; loss = recommendation loss +
    weight * reconstruction. Contexts are found by the history alone, never by the target."""

    reads_history_alone = False  # the user's id counts, too

    def __init__(self, config: Config, dataset: Dataset) -> None:
        super().__init__(config, dataset)
        settings = LLMCFRetrievalSettings.of(config)
        self.weight, self.feature_weight = settings.reconstruction_weight, settings.feature_weight
        size, std = settings.hidden_size, settings.initializer_range
        self.item_embedding = nn.Embedding(self.n_items, size, padding_idx=0)
        self.user_embedding = nn.Embedding(dataset.user_num, size, padding_idx=0)
        for table in (self.item_embedding, self.user_embedding):
            nn.init.normal_(table.weight, std=std)
            nn.init.zeros_(table.weight[0])
        self.backbone = backbone_from_settings(settings, settings.MAX_ITEM_LIST_LENGTH)
        self.memory = ExampleStore(config, dataset)
        self.search = ExampleSearch(self.memory, settings, both_labels=False)
        self.network = build_in_context(settings, 3 * size, self.memory.text.dimension, size)

    def user_states(self, item_seq: Tensor, mask: Tensor) -> Tensor:
        """States after every position, of users without an id: int [B, L] -> [B, L, H]."""
        users = torch.zeros_like(item_seq[:, 0])
        states = self._encode_at(users, item_seq, mask)
        out = states.new_zeros(*mask.shape, states.shape[-1])
        out[mask] = states
        return out

    def row_states(self, interaction: Interaction) -> Tensor:
        """State after the last real item, [B, H]."""
        return self._encode_last(self._users(interaction), interaction[self.ITEM_SEQ])

    def states_of_pairs(self, interaction: Interaction) -> Tensor:
        """Return the same as `row_states`, but read equal pairs of user and history once."""
        rows = torch.cat([self._users(interaction)[:, None], interaction[self.ITEM_SEQ]], dim=1)
        return map_distinct_rows(lambda rows: self._encode_last(rows[:, 0], rows[:, 1:]), rows)

    def supervised_states(self, interaction: Interaction, supervised: Tensor) -> Tensor:
        """States at some positions: bool [B, L] -> [T, H]."""
        return self._encode_at(self._users(interaction), interaction[self.ITEM_SEQ], supervised)

    def calculate_loss(self, interaction: Interaction) -> Tensor:
        """Recommendation loss plus weight times the reconstruction loss, scalar."""
        loss = super().calculate_loss(interaction)
        return loss + self.weight * self.network.reconstruction

    def _encode_last(self, users: Tensor, item_seq: Tensor) -> Tensor:
        slots = torch.arange(item_seq.shape[1], device=item_seq.device)
        return self._encode_at(users, item_seq, slots == last_slots(item_seq != 0)[:, None])

    def _users(self, interaction: Interaction) -> Tensor:
        """Return the users of the rows, int [B]; 0 for new users."""
        if self.USER_ID in interaction:
            return interaction[self.USER_ID]
        return torch.zeros_like(interaction[self.ITEM_SEQ][:, 0])

    def _encode_at(self, users: Tensor, item_seq: Tensor, wanted: Tensor) -> Tensor:
        """States at T positions: int [B], int [B, L], bool [B, L] -> [T, H], row by row."""
        mask = item_seq != 0
        # An empty history is read as one padding item.
        states = self.backbone.at(self.item_embedding(item_seq), mask | wanted, wanted)
        lengths = mask.cumsum(1)[wanted]
        text = self.memory.text(item_seq).cumsum(1)[wanted]  # sums over the items so far, [T, D]
        text = text / lengths.clamp(min=1)[:, None]
        query_users = users[:, None].expand_as(wanted)[wanted]
        # The window of a long history leaves out its start. These lengths are therefore at most the
        # true ones, and exclude at least the examples that the true ones would.
        chosen = self.search.find(query_users, lengths, text)
        masked = torch.zeros_like(query_users)
        query = self._tokens(query_users, states, text, masked)
        w = self.network.encode_context(query, chosen, self.memory.columns, self._behaviors)
        return states + self.feature_weight * w

    def _behaviors(self, users: Tensor, histories: Tensor, items: Tensor) -> Tensor:
        """Behavior tokens of examples: int [M], int [M, L], int [M] -> [M, H]."""
        histories = histories[:, : max(int((histories != 0).any(0).sum()), 1)]
        states = self.backbone.last(self.item_embedding(histories), histories != 0)
        return self._tokens(users, states, self.memory.mean_text(histories), items)

    def _tokens(self, users: Tensor, states: Tensor, text: Tensor, items: Tensor) -> Tensor:
        return self.network.behaviors(
            self.user_embedding(users),
            states,
            text,
            self.item_embedding(items),
            self.memory.text(items),
        )
