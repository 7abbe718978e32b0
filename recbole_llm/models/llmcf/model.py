"""LLM-CF (Sun et al., CIKM 2024) for CTR: RecBole's models with the feature w."""

from __future__ import annotations

from logging import getLogger
from time import perf_counter

import numpy as np
import torch
import torch.nn.functional as F
from recbole.data.dataloader import AbstractDataLoader
from recbole.data.dataset import Dataset
from recbole.data.interaction import Interaction
from torch import Tensor

from recbole_llm.core.config import Config
from recbole_llm.data.interaction import take
from recbole_llm.models.ctr import CTRRecommender
from recbole_llm.models.ctr_towers import build_tower
from recbole_llm.models.llmcf.context import in_context
from recbole_llm.models.llmcf.memory import FLOATS, Memory
from recbole_llm.models.llmcf.settings import LLMCFSettings

CONTEXT = "context_examples"  # column of the training rows: their examples


class LLMCF(CTRRecommender):
    """DIN, DeepFM, DCN or AutoInt whose MLP reads w, too; loss = BCE + weight * reconstruction.

    A behaviour token has the backbone's own embeddings of user and item; its history is the mean
    of the items'.
    """

    def __init__(self, config: Config, dataset: Dataset) -> None:
        super().__init__(config, dataset)
        settings = LLMCFSettings.of(config)
        self.weight = settings.reconstruction_weight
        self.memory = Memory(config, dataset, both_labels=True)
        size = settings.context_size
        self.tower = build_tower(settings.backbone, config, dataset, size)
        behaviour = self.tower.user_width + 2 * self.tower.item_width
        self.network = in_context(settings, behaviour, self.memory.text.dimension, size)

    def before_training(self, train_data: AbstractDataLoader) -> None:
        """Seek the contexts of all training rows at once, where their targets are known before."""
        if self.n_negatives:
            return
        start, inter = perf_counter(), train_data.dataset.inter_feat
        widest = max(len(self.memory.users), self.memory.text.dimension)
        found, at_once = [], FLOATS // widest + 1
        for first in range(0, len(inter), at_once):
            rows = take(inter, np.arange(first, min(first + at_once, len(inter))))
            found.append(self._contexts(rows.to(self.device)).cpu())
        inter.update(Interaction({CONTEXT: torch.cat(found)}))
        seconds = perf_counter() - start
        getLogger().info(f"contexts of {len(inter):,} training rows found in {seconds:.1f} s")

    def user_vectors(self, interaction: Interaction) -> Tensor:
        """The history itself, int [B, L]."""
        return interaction[self.ITEM_SEQ]

    def calculate_loss(self, interaction: Interaction) -> Tensor:
        """Binary cross-entropy plus weight times the reconstruction loss, scalar."""
        histories, users, items, labels = self.labelled_pairs(interaction)
        contexts = interaction[CONTEXT] if CONTEXT in interaction else None
        logits = self.logits(histories, users, items, contexts)
        loss = F.binary_cross_entropy_with_logits(logits, labels) + self.tower.regularisation()
        return loss + self.weight * self.network.reconstruction

    def pair_floats(self) -> int:
        """Floats on a pair's way to its logit: similarities, tokens, the MLP."""
        tokens = (3 * self.memory.n_examples + 1) * 8 * self.network.label.embedding_dim
        return len(self.memory.users) + tokens + self.tower.pair_floats()

    def _contexts(self, rows: Interaction) -> Tensor:
        """Contexts of rows with a target, int [B, K]."""
        users, history = self._users(rows), rows[self.ITEM_SEQ]
        text, lengths = self.memory.mean_text(history), (history != 0).sum(-1)
        return self.memory.search(users, lengths, text, rows[self.ITEM_ID])

    def logits(
        self, states: Tensor, users: Tensor, items: Tensor, contexts: Tensor | None = None
    ) -> Tensor:
        """Logits of pairs: histories int [*, L], int [*], int [*] -> [*]; their examples int
        [*, K], None: to be sought."""
        histories, length = states, states.shape[-1]
        leading = np.broadcast_shapes(histories.shape[:-1], users.shape)
        owners, seen = users.expand(leading), histories.expand(*leading, length)
        query = self._behaviours(
            owners.reshape(-1), seen.reshape(-1, length), torch.zeros_like(owners).reshape(-1)
        ).view(*leading, -1)  # the target is masked
        if contexts is None:
            text, lengths = self.memory.mean_text(histories), (histories != 0).sum(-1)
            contexts = self.memory.search(users, lengths, text, items)
        pairs = np.broadcast_shapes(leading, items.shape)

        def flat(values: Tensor) -> Tensor:
            return values.expand(*pairs, values.shape[-1]).reshape(-1, values.shape[-1])

        w = self.memory.context(self.network, flat(query), flat(contexts), self._behaviours)
        logits: Tensor = self.tower(
            flat(histories), users.expand(pairs).reshape(-1), items.expand(pairs).reshape(-1), w
        )
        return logits.view(pairs)

    def _behaviours(self, users: Tensor, histories: Tensor, items: Tensor) -> Tensor:
        """Behaviour tokens: int [M], int [M, L], int [M] -> [M, H]; item 0 is masked."""
        ids = torch.cat([histories, items[:, None]], dim=1)  # [M, L + 1]
        distinct, which = torch.unique(ids, return_inverse=True)
        table = self.tower.item_vectors(distinct) * (distinct != 0)[:, None]
        total = F.embedding_bag(which[:, :-1], table, mode="sum")
        mean = total / (histories != 0).sum(1, keepdim=True).clamp(min=1)
        return self.network.behaviours(
            self.tower.user_vectors(users),
            mean,
            self.memory.mean_text(histories),
            table[which[:, -1]],
            self.memory.text(items),
        )
