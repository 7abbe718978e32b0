"""AlphaRec: users and items as mapped text vectors on the interaction graph."""

from __future__ import annotations

from collections.abc import Sequence
from logging import getLogger

import numpy as np
import torch
import torch.nn.functional as F
from recbole.data.dataset import Dataset
from recbole.data.interaction import Interaction
from recbole.model.abstract_recommender import GeneralRecommender
from recbole.utils import InputType
from torch import Tensor

from recbole_llm.core.config import Config
from recbole_llm.data.loading.ranking_step import FactorModel
from recbole_llm.data.rows.training import training_interactions
from recbole_llm.features.attach import item_embeddings
from recbole_llm.layers.embedding import FrozenEmbedding
from recbole_llm.layers.losses import sampled_softmax
from recbole_llm.layers.matmul import scores
from recbole_llm.models.alpharec.graph import InteractionGraph
from recbole_llm.models.alpharec.query import mix_with_similarity, query_from_nearest_texts
from recbole_llm.models.alpharec.settings import AlphaRecSettings
from recbole_llm.models.alpharec.sparse import pair_scores, weighted_sums
from recbole_llm.models.alpharec.text_map import LinearMap, MLPMap
from recbole_llm.models.item_cache import ItemCache


class AlphaRec(ItemCache, FactorModel, GeneralRecommender):  # type: ignore[misc]
    """Sheng et al., "Language Representations Can be What Recommenders Need", ICLR 2025.

    No vector is learned for any user or item, only the map f of text vectors (sections 3.1-3.3):
    a user is the mean text of the training items; f(users), f(items) go through K layers of
    LightGCN's convolution and are averaged over the layers; the loss is InfoNCE over cosines, and
    the score is a cosine. Departures from the authors' code: validation picks the best epoch,
    repeated pairs have weight 1 in the graph, a user without training items is the zero vector
    before f and shifts no other row, and negatives never include a training item of the user.

    N users, n items (with the padding ids 0), D preference dimensions, D_t text dimensions.
    """

    input_type = InputType.PAIRWISE
    transferable = "text_map"  # the part that fits any data set, for zero-shot use

    def __init__(self, config: Config, dataset: Dataset) -> None:
        super().__init__(config, dataset)
        settings = AlphaRecSettings.of(config)
        table = item_embeddings(config, dataset)
        self.text = FrozenEmbedding(table.matrix, table.fingerprint)  # [n, D_t]
        self.n_layers, self.n_neg, self.tau = settings.n_layers, settings.n_neg, settings.tau
        self.loader_negatives = config["train_neg_sample_args"]["sample_num"]
        self.negatives, self.sample_by = settings.negatives, settings.sample_by
        size, power = settings.embedding_size, settings.text_whitening
        self.text_map: LinearMap | MLPMap = (
            LinearMap(table.matrix, size, power, bias=False)
            if settings.text_map == "linear"
            else MLPMap(table.matrix, settings.map_hidden_size, size, power)
        )
        if settings.text_whitening > 0 and self.n_items <= table.dimension:
            getLogger().info(
                f"text_whitening: the texts of {self.n_items - 1} items span less than their "
                f"{table.dimension} dimensions; texts of later items, queries and other data sets "
                f"are read within that span (text_whitening: 0 reads all of them)"
            )
        self.query_neighbors = settings.query_neighbors
        self.query_share = settings.query_text_share
        self.set_interactions(*training_interactions(dataset))

    def set_interactions(self, users: np.ndarray, items: np.ndarray) -> None:
        """Replace the graph; f itself depends on no user or item.

        Args:
            users, items: internal ids, int [*].
        """
        graph = InteractionGraph(users, items, self.n_users, self.n_items, self.n_layers)
        self.graph = graph.to(self.text.weight.device)
        self.forget_cached_items()

    def add_items(self, text: Tensor) -> None:
        """Add items after training, as nodes without edges; see `TextItemModel`."""
        self.text.append(text)
        self.items_added(len(text))
        self.set_interactions(*self.graph.pairs())

    def forward(self) -> tuple[Tensor, Tensor]:
        """Final vectors, not normalized: users [N, D], items [n, D]."""
        nodes: Tensor = self.text_map.on_graph(self.text.weight, self.graph)
        return nodes[: self.n_users], nodes[self.n_users :]

    def calculate_loss(self, interaction: Interaction) -> Tensor:
        """InfoNCE over the batch, scalar; draws the negatives unless the loader provides them."""
        users, items, negatives = self.training_pairs(interaction)
        all_users, all_items = self.forward()
        batch = F.normalize(F.embedding(users, all_users), dim=1)  # [B, D]
        if negatives is None:
            return self._in_batch_loss(batch, F.embedding(items, all_items), users, items)
        ids = torch.cat([items.unsqueeze(1), negatives], dim=1)  # [B, 1 + k]
        logits = pair_scores(batch, F.normalize(all_items, dim=1), ids) / self.tau
        return sampled_softmax(logits[:, 0], logits[:, 1:])

    def training_pairs(self, interaction: Interaction) -> tuple[Tensor, Tensor, Tensor | None]:
        """Users [B], their items [B], and negatives [B, k], or None for in-batch negatives."""
        users, items = interaction[self.USER_ID], interaction[self.ITEM_ID]
        if self.NEG_ITEM_ID in interaction:
            # RecBole's loader repeats the whole batch for each further negative.
            size = len(users) // self.loader_negatives
            negatives = interaction[self.NEG_ITEM_ID].view(self.loader_negatives, size)
            return users[:size], items[:size], negatives.t()
        if self.sample_by == "user":
            users, items = self.graph.draw(len(users))
        if self.negatives == "in_batch":
            return users, items, None
        return users, items, self.graph.negatives(users, self.n_neg)

    def _in_batch_loss(
        self, users: Tensor, positives: Tensor, ids: Tensor, items: Tensor
    ) -> Tensor:
        """Loss with the other rows' items as negatives, except the user's own: [B, D] each."""
        with torch.autocast(users.device.type, enabled=False):  # as `pair_scores`
            logits = users @ F.normalize(positives, dim=1).t() / self.tau  # [B, B]
        interacted = self.graph.has(ids, items)  # [B, B]; True on the diagonal
        positive = torch.diagonal(logits)
        return sampled_softmax(positive, logits.masked_fill(interacted, -torch.inf))

    @torch.no_grad()
    def predict(self, interaction: Interaction) -> Tensor:
        """Cosines of each row's user and item, [B]."""
        users, items = self._normalized()
        chosen = users[interaction[self.USER_ID]] * items[interaction[self.ITEM_ID]]
        return chosen.sum(1)

    @torch.no_grad()
    def score_factors(self, interaction: Interaction) -> tuple[Tensor, Tensor]:
        """Unit vectors of users [B, D] and items [n, D], see `FactorModel`."""
        users, items = self._normalized()
        return users[interaction[self.USER_ID]], items

    def _normalized(self) -> tuple[Tensor, Tensor]:
        """Unit vectors [N, D] and [n, D], kept while the model stays in eval mode."""
        nodes = self.cached_items(
            lambda: F.normalize(self.text_map.on_graph(self.text.weight, self.graph), dim=1),
            "nodes",
        )
        return nodes[: self.n_users], nodes[self.n_users :]

    @torch.no_grad()
    def score_users(
        self, histories: Sequence[Tensor], query: Tensor | None = None, query_weight: float = 0.5
    ) -> Tensor:
        """Scores for any users, known or new, from their items and a text query.

        A user's text vector is u' = (1 - a) u0 + a q, with u0 the mean of the items' texts and q
        from `query_from_nearest_texts`. As in the convolution, f(u') and the items' vectors of each
        layer make the final vector; the rest of the graph stays as it is. A known user with the
        training items and no query therefore has exactly the scores of `full_sort_predict`.

        Args:
            histories: item ids of each of B users, int [*] each; an empty history needs a query.
            query: text vector, [D_t].
            query_weight: a, in [0, 1]; a user without items has u' = q.

        Returns:
            Cosines, [B, n]; a query mixes in the similarity of texts (`query_text_share`).
        """
        _, items = self._normalized()
        unique = [torch.unique(history) for history in histories]
        sizes = torch.tensor([len(u) for u in unique], device=items.device)  # [B]
        starts = torch.cumsum(sizes, 0) - sizes
        ids = torch.cat(unique).to(items.device)
        profile = self._profiles(ids, starts, sizes, query, query_weight)
        degrees = self.graph.item_degrees.clamp(min=1)[ids] * sizes.repeat_interleave(sizes)
        edges = degrees.to(items.dtype).rsqrt()
        from_items = weighted_sums(self._item_layers(), ids, starts, edges)
        total = self.text_map(profile) + from_items  # K + 1 times the mean over layers
        cosines = scores(F.normalize(total, dim=1), items)
        if query is None:
            return cosines
        weight = self.query_share * torch.where(sizes > 0, query_weight, 1.0)
        return mix_with_similarity(cosines, self.text.weight, query.to(cosines), weight)

    def history_vector(self, items: Tensor) -> Tensor:
        """A user's final vector as in `score_users`: distinct items, int [B, L] -> [B, D]."""
        degrees = self.graph.item_degrees.clamp(min=1)[items].float() * items.shape[1]  # [B, L]
        from_items = self._item_layers()[items] * degrees.rsqrt()[..., None]
        total = self.text_map(self.text.weight[items].mean(1)) + from_items.sum(1)
        return F.normalize(total, dim=1)

    def ranked_vectors(self) -> Tensor:
        """The items' final vectors of length 1, [n, D]."""
        return self._normalized()[1]

    def _profiles(
        self, ids: Tensor, starts: Tensor, sizes: Tensor, query: Tensor | None, weight: float
    ) -> Tensor:
        """Text vectors of users, [B, D_t]."""
        ones = torch.ones(len(ids), device=ids.device, dtype=self.text.weight.dtype)
        sums = weighted_sums(self.text.weight, ids, starts, ones)
        means = sums / sizes.clamp(min=1).unsqueeze(1)
        if query is None:
            return means
        query = query_from_nearest_texts(query.to(means), self.text.weight, self.query_neighbors)
        moved = torch.lerp(means, query.expand_as(means), weight)
        return torch.where((sizes > 0).unsqueeze(1), moved, query)

    def _item_layers(self) -> Tensor:
        """Sum of the items' vectors over layers 0 … K - 1, [n, D]; kept in eval mode."""
        return self.cached_items(self._sum_layers, "layers")

    def _sum_layers(self) -> Tensor:
        text = self.text.weight
        users = self.text_map(self.graph.user_means(text))
        layer = torch.cat([users, self.text_map(text)])
        total = torch.zeros_like(layer)
        for _ in range(self.n_layers):
            total, layer = total + layer, self.graph.step(layer)
        return total[self.n_users :]
