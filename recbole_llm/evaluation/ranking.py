"""Collector of ranking results: RecBole's numbers, in less memory, and fair to tied items."""

from __future__ import annotations

from collections import Counter
from typing import Any

import torch
from recbole.data.dataloader import AbstractDataLoader
from recbole.data.dataset import Dataset
from recbole.data.interaction import Interaction
from recbole.evaluator.collector import DataStruct
from torch import Tensor

from recbole_llm.core.config import Config
from recbole_llm.core.digest import short_digests
from recbole_llm.core.keys.evaluation import check_topk
from recbole_llm.data.rows.training import item_counts
from recbole_llm.evaluation.beyond import COUNTS, VECTORS
from recbole_llm.evaluation.collector import BatchCollector
from recbole_llm.evaluation.groups import PAIRS, USERS
from recbole_llm.evaluation.positives import Positives, mean_ranks
from recbole_llm.evaluation.ranking_blocks import BlockScores, top_items
from recbole_llm.evaluation.ties import LAST, put_nan_last
from recbole_llm.features.attach import item_embeddings

_COUNTER = "data.count_items"  # counts by item that RecBole's metrics read
_ITEMS = "data.num_items"  # of the catalogue


class RankingCollector(BatchCollector):
    """RecBole's ``Collector`` for full and sampled ranking.

    Without ties it collects what RecBole's does, but makes no matrices of users by items and
    sorts nothing: places are counted, see `recbole_llm.evaluation.positives`. For tied scores see
    `recbole_llm.evaluation.ties`; mean ranks (GAUC) use average ranks, as in RecBole. For AUC and
    LogLoss see `recbole_llm.evaluation.pointwise`. While `by_group` is set, it also keeps what
    ``eval_groups`` and ``user_metrics`` need.
    """

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        self._row = 0  # number, in the evaluation, of the next batch's first row
        self._item_keys: Tensor | None = None
        self._tokens: Any = None

    def data_collect(self, train_data: AbstractDataLoader) -> None:
        """Store what the metrics need from the training data, and make the groups."""
        super().data_collect(train_data)
        dataset = train_data.dataset
        self._note_tokens(dataset)
        if self.register.need(_ITEMS):  # RecBole counts the padding, which no list has
            self.data_struct.set(_ITEMS, dataset.item_num - 1)
        if self.register.need(COUNTS):
            self.data_struct.set(COUNTS, item_counts(dataset))
        if self.register.need(_COUNTER):  # RecBole's misses first items of sequences
            counts = item_counts(dataset).tolist()
            self.data_struct.set(_COUNTER, Counter({i: n for i, n in enumerate(counts) if n}))
        if self.register.need(VECTORS):
            self.data_struct.set(VECTORS, item_embeddings(self.config, dataset).matrix)

    def begin(self, eval_data: AbstractDataLoader) -> None:
        """Store what ties are drawn by: item tokens and row numbers, which are the same for a
        loaded model, and for any number of processes."""
        super().begin(eval_data)
        self._row = getattr(eval_data, "first_row", 0)
        self._note_tokens(eval_data.dataset)

    def _note_tokens(self, dataset: Dataset) -> None:
        tokens = dataset.field2id_token[dataset.iid_field]
        if tokens is not self._tokens:
            self._tokens, self._item_keys = tokens, None

    def eval_batch_collect(
        self,
        scores_tensor: Tensor | BlockScores,
        interaction: Interaction,
        positive_u: Tensor,
        positive_i: Tensor,
    ) -> None:
        """Collect a batch.

        Args:
            scores_tensor: scores of the catalogue, -inf where an item may not be ranked, [B, n];
                `BlockScores` if the metrics need only the first places.
            positive_u: row of each positive, int [P].
            positive_i: item of each positive, int [P].
        """
        self.check_groups()
        check_topk(self.topk, scores_tensor.shape[1] - 1)  # without the padding
        rows, items = (ids.to(scores_tensor.device) for ids in (positive_u, positive_i))
        positives = Positives.of(scores_tensor.shape, rows, items)
        if isinstance(scores_tensor, BlockScores):
            self._collect_blocks(scores_tensor, positives)
        else:
            self._collect_whole(scores_tensor, positives)
        if self.register.need("data.label"):
            label = interaction[self.config["LABEL_FIELD"]]
            self.keep("data.label", label)
        if self.by_group:
            candidates = interaction[self.config["USER_ID_FIELD"]]
            users = row_users(candidates, positive_u, len(scores_tensor))
            pairs = torch.stack([users[positive_u.cpu()], positive_i.cpu()], dim=1)
            self.keep(USERS, users)
            self.keep(PAIRS, pairs)
        self._row += len(scores_tensor)

    def _collect_blocks(self, scores: BlockScores, positives: Positives) -> None:
        """Collect what metrics of the first places need, read off the lists."""
        k, rows = max(self.topk), torch.arange(len(scores), device=scores.device)
        lists = scores.top_items(k, rows + self._row, lambda: self._tie_keys(scores))
        if self._needs_lists():
            self.keep("rec.items", lists)
        if self.register.need("rec.topk"):
            self._collect_hits(positives, k, rows, lists)

    def _collect_whole(self, scores: Tensor, positives: Positives) -> None:
        k = max(self.topk)
        mean_rank, topk = self.register.need("rec.meanrank"), self.register.need("rec.topk")
        # Lists put NaN last by themselves.
        read = scores if mean_rank else scores[positives.rows, positives.items]
        if read.isnan().any():
            scores = put_nan_last(scores)
        lists = None
        if self._needs_lists():
            lists = self._top_items(scores, k, torch.arange(len(scores), device=scores.device))
            self.keep("rec.items", lists)
        if mean_rank or topk:
            ranked = positives.rank(scores, None if mean_rank else k)
            if topk:
                rows = ranked.tied(k)
                read = self._top_items(scores[rows], k, rows) if lists is None else lists[rows]
                self._collect_hits(ranked, k, rows, read)
            if mean_rank:
                self.keep("rec.meanrank", mean_ranks(scores, ranked))
        if self.register.need("rec.score"):
            self.keep("rec.score", scores)

    def _collect_hits(self, positives: Positives, k: int, rows: Tensor, lists: Tensor) -> None:
        """Collect hits of each row's first k places, and its number of positives: [B, k + 1]."""
        for key, wanted in self._positives_by_key(positives).items():
            hits = wanted.hits(k, rows, lists).long()
            self.keep(key, torch.cat((hits, wanted.counts[:, None]), dim=1))

    def get_data_struct(self) -> DataStruct:
        """Return what was collected, and start anew for the next evaluation."""
        self._row = 0
        return super().get_data_struct()

    def _needs_lists(self) -> bool:
        """Whether to keep the items of the lists, not only their hits."""
        return bool(self.register.need("rec.items")) or (self.by_group and self.wants_users)

    def _positives_by_key(self, positives: Positives) -> dict[str, Positives]:
        """All positives and those of each group of items, by the key for their hits."""
        chosen = {"rec.topk": positives}
        for group in self.groups or ():
            if self.by_group and group.of_items:
                members = group.members.to(positives.items.device)
                chosen[group.topk_key] = positives.select(members[positives.items])
        return chosen

    def _top_items(self, scores: Tensor, k: int, rows: Tensor) -> Tensor:
        """The first k items of these rows of the batch, whose scores are [B, n]: int64 [B, k]."""
        return top_items(scores, k, rows + self._row, lambda: self._tie_keys(scores))

    def _tie_keys(self, scores: Tensor | BlockScores) -> Tensor:
        """A hash of each item's token, int64 [n], so that the draw does not depend on item ids."""
        if self._item_keys is None:
            keys = torch.arange(scores.shape[1])
            if self._tokens is not None:
                keys = torch.from_numpy(short_digests(str(t).encode() for t in self._tokens))
            keys[0] = LAST  # the padding comes even after items that may not be recommended
            self._item_keys = keys.to(scores.device)
        return self._item_keys


def row_users(users: Tensor, positive_rows: Tensor, n_rows: int) -> Tensor:
    """User of each evaluated row, int [n_rows].

    Args:
        users: user of each row; with sampled negatives, user of each candidate.
        positive_rows: row of each positive, ascending, int [P].
    """
    users, positive_rows = users.cpu(), positive_rows.cpu()
    if len(users) == n_rows:
        return users
    # Candidates come row by row, `times` for each positive.
    counts = torch.bincount(positive_rows, minlength=n_rows)
    times = len(users) // len(positive_rows)
    return users[(counts.cumsum(0) - counts) * times]
