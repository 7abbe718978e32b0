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
from recbole_llm.data.rows.interaction import take
from recbole_llm.models.ctr import CTRRecommender, UserContext
from recbole_llm.models.ctr_towers import build_tower
from recbole_llm.models.llmcf.context import build_in_context
from recbole_llm.models.llmcf.memory import ExampleStore
from recbole_llm.models.llmcf.search import FLOATS, ExampleSearch
from recbole_llm.models.llmcf.settings import LLMCFSettings

CONTEXT = "context_examples"  # column with the examples of training rows


class LLMCF(CTRRecommender):
    """DIN, DeepFM, DCN or AutoInt whose MLP reads w, too; loss = BCE + weight * reconstruction.

    A behavior token has the backbone's own embeddings of user and item; its history is the mean
    of the items' embeddings.
    """

    def __init__(self, config: Config, dataset: Dataset) -> None:
        super().__init__(config, dataset)
        settings = LLMCFSettings.of(config)
        self.weight = settings.reconstruction_weight
        self.memory = ExampleStore(config, dataset)
        self.search = ExampleSearch(self.memory, settings, both_labels=True)
        size = settings.context_size
        self.tower = build_tower(settings.backbone, config, dataset, size)
        behavior = self.tower.user_width + 2 * self.tower.item_width
        self.network = build_in_context(settings, behavior, self.memory.text.dimension, size)

    def before_training(self, train_data: AbstractDataLoader) -> None:
        """Find the contexts of all training rows once, unless negatives are drawn later."""
        if self.n_negatives:
            return
        start, inter = perf_counter(), train_data.dataset.inter_feat
        widest = max(len(self.memory.users), self.memory.text.dimension)
        contexts, size = [], FLOATS // widest + 1
        for first in range(0, len(inter), size):
            rows = take(inter, np.arange(first, min(first + size, len(inter)))).to(self.device)
            users, histories = self._users(rows), rows[self.ITEM_SEQ]
            contexts.append(self.find_examples(users, histories, rows[self.ITEM_ID]).cpu())
        inter.update(Interaction({CONTEXT: torch.cat(contexts)}))
        seconds = perf_counter() - start
        getLogger().info(f"contexts of {len(inter):,} training rows found in {seconds:.1f} s")

    def user_context(self, interaction: Interaction) -> UserContext:
        """The histories alone, int [B, L]."""
        return UserContext.without_states(interaction[self.ITEM_SEQ])

    def calculate_loss(self, interaction: Interaction) -> Tensor:
        """Binary cross-entropy plus weight times the reconstruction loss, scalar."""
        context, users, items, labels = self.labeled_pairs(interaction)
        examples = interaction[CONTEXT] if CONTEXT in interaction else None
        logits = self.logits(context, users, items, examples)
        loss = F.binary_cross_entropy_with_logits(logits, labels) + self.tower.regularization()
        return loss + self.weight * self.network.reconstruction

    def pair_floats(self) -> int:
        """Return the floats that a pair needs: similarities, tokens and the MLP."""
        tokens = (3 * self.search.n_examples + 1) * 8 * self.network.label.embedding_dim
        return len(self.memory.users) + tokens + self.tower.pair_floats()

    def find_examples(self, users: Tensor, histories: Tensor, items: Tensor) -> Tensor:
        """Find queries' examples, rows of `memory`: int [*], int [*, L], int [*] -> int [*, K]."""
        text, lengths = self.memory.mean_text(histories), (histories != 0).sum(-1)
        return self.search.find(users, lengths, text, items)

    def logits(
        self, context: UserContext, users: Tensor, items: Tensor, examples: Tensor | None = None
    ) -> Tensor:
        """Logits of pairs: histories int [*, L], int [*], int [*] -> [*]; their examples int
        [*, K], None: the search finds them."""
        histories, length = context.histories, context.histories.shape[-1]
        leading = np.broadcast_shapes(histories.shape[:-1], users.shape)
        query_users = users.expand(leading).reshape(-1)
        query_histories = histories.expand(*leading, length).reshape(-1, length)
        masked = torch.zeros_like(query_users)  # the query does not know its target
        query = self._behaviors(query_users, query_histories, masked).view(*leading, -1)
        if examples is None:
            examples = self.find_examples(users, histories, items)
        pairs = np.broadcast_shapes(leading, items.shape)

        def flat(values: Tensor) -> Tensor:
            return values.expand(*pairs, values.shape[-1]).reshape(-1, values.shape[-1])

        w = self.network.encode_context(
            flat(query), flat(examples), self.memory.columns, self._behaviors
        )
        logits: Tensor = self.tower(
            flat(histories), users.expand(pairs).reshape(-1), items.expand(pairs).reshape(-1), w
        )
        return logits.view(pairs)

    def _behaviors(self, users: Tensor, histories: Tensor, items: Tensor) -> Tensor:
        """Behavior tokens: int [M], int [M, L], int [M] -> [M, H]; item 0 is masked."""
        ids = torch.cat([histories, items[:, None]], dim=1)  # [M, L + 1]
        distinct, which = torch.unique(ids, return_inverse=True)
        table = self.tower.item_vectors(distinct) * (distinct != 0)[:, None]
        total = F.embedding_bag(which[:, :-1], table, mode="sum")
        mean = total / (histories != 0).sum(1, keepdim=True).clamp(min=1)
        return self.network.behaviors(
            self.tower.user_vectors(users),
            mean,
            self.memory.mean_text(histories),
            table[which[:, -1]],
            self.memory.text(items),
        )
