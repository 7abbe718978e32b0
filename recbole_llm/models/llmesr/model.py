"""LLM-ESR (Liu et al., NeurIPS 2024, arXiv 2405.20646)."""

from __future__ import annotations

import time
from logging import getLogger

from recbole.data.dataloader import AbstractDataLoader
from recbole.data.dataset import Dataset
from recbole.data.interaction import Interaction
from torch import Tensor

from recbole_llm.core.config import Config
from recbole_llm.data.rows.training import training_interactions
from recbole_llm.features.attach import features_of, item_embeddings
from recbole_llm.features.item_init import append_items
from recbole_llm.features.tables.reduce import WhitenedEmbedding
from recbole_llm.features.tables.retrieval import nearest_neighbors
from recbole_llm.models.base import SequenceRecommender, TrainingRows
from recbole_llm.models.llmesr.distillation import Histories, SelfDistillation
from recbole_llm.models.llmesr.initial import initialize
from recbole_llm.models.llmesr.layers import DualView
from recbole_llm.models.llmesr.settings import LLMESRSettings


class LLMESR(SequenceRecommender):
    """Dual-view modeling and retrieval-augmented self-distillation.

    loss = recommendation loss + alpha * mean (F_u - mean of similar users' F, detached)^2. The
    second term counts once per user and epoch, where a row ends in the last training item.
    """

    def __init__(self, config: Config, dataset: Dataset) -> None:
        super().__init__(config, dataset)
        settings = LLMESRSettings.of(config)
        self.alpha, self.teacher = settings.alpha, settings.teacher
        self.n_similar_users = settings.n_similar_users
        table = item_embeddings(config, dataset)
        self.network = DualView(settings, WhitenedEmbedding(table, settings.text_whitening))
        initialize(self.network, settings)
        self.distillation: SelfDistillation | None = None  # for training only
        self._config = config

    def before_training(self, train_data: AbstractDataLoader) -> None:
        """Find the similar users, from training histories alone."""
        if self.alpha == 0:
            return
        dataset, start = train_data.dataset, time.perf_counter()
        vectors = features_of(dataset, self._config)["user_text"].matrix
        users, items = training_interactions(dataset)
        histories = Histories(users, items, dataset.user_num)
        # A history of one item has no position to distill at.
        candidates = (histories.lengths > 1).numpy()
        similar = nearest_neighbors(vectors, self.n_similar_users, candidates)
        size, length = self.network.size, self.max_seq_length
        distillation = SelfDistillation(histories, similar, size, length, self.teacher)
        self.distillation = distillation.to(self.device)
        getLogger().info(
            f"similar users: {self.n_similar_users} for each of {int(candidates.sum()):,} users, "
            f"found in {time.perf_counter() - start:.1f} s"
        )

    def user_states(self, item_seq: Tensor, mask: Tensor) -> Tensor:
        """F = [collaborative ; semantic] after every position: int [B, L] -> [B, L, 2 H]."""
        return self.network.states(item_seq, mask)

    def states_at(self, item_seq: Tensor, mask: Tensor, wanted: Tensor) -> Tensor:
        """F after some items: item_seq int [B, L], masks bool [B, L] -> [T, 2 H]."""
        return self.network.states_at(item_seq, mask, wanted)

    def last_states(self, item_seq: Tensor) -> Tensor:
        """F after the last real item: int [B, L] -> [B, 2 H]."""
        return self.network.last_states(item_seq)

    def item_vectors(self, ids: Tensor | None = None) -> Tensor:
        """[E_i ; a(T_i)], ids int [*] -> [*, 2 H]; None: the whole catalogue."""
        return self.network.item_vectors(ids)

    def add_items(self, text: Tensor) -> None:
        """Add items after training; see `TextItemModel`."""
        append_items(self.network.text, text, self.network.item_embedding)
        self.items_added(len(text))

    def calculate_loss(self, interaction: Interaction) -> Tensor:
        """Recommendation loss plus alpha times the distillation loss, scalar."""
        rows = self.training_rows(interaction)
        loss = self.recommendation_loss(rows)
        if self.alpha > 0:
            loss = loss + self.alpha * self.distillation_loss(interaction, rows)
        return loss

    def distillation_loss(self, interaction: Interaction, rows: TrainingRows) -> Tensor:
        """Distillation loss over the rows that end in their user's last training item, scalar."""
        if self.distillation is None:
            raise ValueError("LLMESR: call before_training(train_data) first, as Trainer does")
        last, users = self.last_rows(interaction, rows)
        item_seq = interaction[self.ITEM_SEQ][: len(users)]
        ended = self.distillation.is_history_end(users, item_seq, rows.targets[last])  # [B]
        return self.distillation(rows.states[last[ended]], users[ended], self._encode_teachers)

    def _encode_teachers(self, item_seq: Tensor) -> Tensor:
        """Last states without dropout, since its noise cannot be learned: int [B, L] -> [B, S]."""
        training = self.network.training
        self.network.eval()
        try:
            return self.last_states(item_seq)
        finally:
            self.network.train(training)
