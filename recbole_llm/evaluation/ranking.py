"""Collector of ranking results: RecBole's numbers, in less memory, and fair to tied items."""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Callable
from typing import Any

import torch
from recbole.evaluator.collector import Collector, DataStruct
from recbole.utils import EvaluatorType
from torch import Tensor

from recbole_llm.evaluation.ties import draw_hits, row_draws, shuffled_ties

CHUNK = 2**22  # elements of the largest temporary
TRANSIENT = ("rec.topk", "rec.meanrank", "rec.score", "rec.items", "data.label")


class RankingCollector(Collector):  # type: ignore[misc]
    """RecBole's ``Collector`` for full and sampled ranking.

    Without ties it collects what RecBole's does. It makes no matrices of users by items: hits
    are looked up, and mean ranks (GAUC) counted instead of sorted. Where scores tie, see
    `recbole_llm.evaluation.ties`; mean ranks take the average rank, as RecBole's do.
    Value-based evaluation (AUC, LogLoss) is RecBole's.

    Args:
        config: the configuration.
    """

    def __init__(self, config: Any) -> None:
        super().__init__(config)
        self._row = 0  # rows collected so far
        self._item_keys: Tensor | None = None
        self._tokens: Any = None

    def data_collect(self, train_data: Any) -> None:
        """Take what the metrics need from the training data."""
        super().data_collect(train_data)
        dataset = train_data._dataset  # a knowledge model's loader has no `dataset`
        self._tokens, self._item_keys = dataset.field2id_token[dataset.iid_field], None

    def eval_batch_collect(
        self, scores_tensor: Tensor, interaction: Any, positive_u: Tensor, positive_i: Tensor
    ) -> None:
        """Collect a batch.

        Args:
            scores_tensor: scores of the catalogue, -inf where an item may not be ranked, [B, n].
            interaction: the batch.
            positive_u: row of each positive, int [P].
            positive_i: item of each positive, int [P].
        """
        if self.config["eval_type"] != EvaluatorType.RANKING:
            super().eval_batch_collect(scores_tensor, interaction, positive_u, positive_i)
            return
        positives = Positives(scores_tensor, positive_u, positive_i)
        if self.register.need("rec.items") or self.register.need("rec.topk"):
            self._collect_lists(scores_tensor, positives)
        if self.register.need("rec.meanrank"):
            self.data_struct.update_tensor("rec.meanrank", mean_ranks(scores_tensor, positives))
        if self.register.need("rec.score"):
            self.data_struct.update_tensor("rec.score", scores_tensor)
        if self.register.need("data.label"):
            label = interaction[self.config["LABEL_FIELD"]]
            self.data_struct.update_tensor("data.label", label.to(self.device))
        self._row += len(scores_tensor)

    def get_data_struct(self) -> DataStruct:
        """What was collected, on the CPU; the next evaluation starts anew."""
        # RecBole 1.2.1 calls .cpu() on counts too, which are plain numbers: ItemCoverage,
        # AveragePopularity, GiniIndex and TailPercentage crash there.
        collected = DataStruct()
        for key, value in list(self.data_struct._data_dict.items()):
            collected.set(key, value.cpu() if isinstance(value, Tensor) else value)
            if key in TRANSIENT:
                del self.data_struct[key]
        self._row = 0
        return collected

    def _collect_lists(self, scores: Tensor, positives: Positives) -> None:
        k = max(self.topk)
        n = scores.shape[1]
        if k > n:
            raise ValueError(f"topk: {k} is more than the {n} items of the catalogue")
        values, items = torch.topk(scores, min(k + 1, n), dim=-1)  # one more shows a tie at the end
        tied = (values[:, 1:] == values[:, :-1]).any(1).nonzero().view(-1)  # [T]
        if self.register.need("rec.topk"):
            for key, wanted in self._hits_of(positives).items():
                hits = wanted.contain(items[:, :k])
                if len(tied):
                    hits[tied] = self._tied_hits(scores, values, tied, wanted)
                topk = torch.cat((hits.long(), wanted.counts[:, None]), dim=1)
                self.data_struct.update_tensor(key, topk)
        if self.register.need("rec.items"):
            items = items[:, :k].contiguous()
            for rows in _chunks(tied, n):
                items[rows] = shuffled_ties(
                    scores[rows], k, rows + self._row, self._keys(n, scores)
                )
            self.data_struct.update_tensor("rec.items", items)

    def _hits_of(self, positives: Positives) -> dict[str, Positives]:
        """Positives whose places in the lists are collected, by the name they are kept under."""
        return {"rec.topk": positives}

    def _tied_hits(
        self, scores: Tensor, values: Tensor, tied: Tensor, positives: Positives
    ) -> Tensor:
        """Hits of the rows in which scores tie, bool [T, k]."""
        k = max(self.topk)
        draws = row_draws(self._row, len(scores), scores.device)[tied]
        listed = values[tied]  # [T, k + 1]
        last = listed[:, k - 1]
        sizes = torch.stack([(listed == listed[:, j, None]).sum(1) for j in range(k)], dim=1)
        # Only the last tie can be longer than the list.
        n = scores.shape[1]
        pieces = zip(_chunks(tied, n), _chunks(last, n), strict=True)
        whole = torch.cat([_count(torch.eq, scores[rows], end) for rows, end in pieces])  # [T]
        sizes = torch.where(listed[:, :k] == last[:, None], whole[:, None], sizes)
        return draw_hits(listed[:, :k], sizes, positives.count_of(values[:, :k])[tied], draws)

    def _keys(self, n: int, scores: Tensor) -> Tensor:
        """What tells an item apart whatever its number: a hash of its token, int64 [n]."""
        if self._item_keys is None:
            keys = torch.arange(n)
            if self._tokens is not None:
                keys = torch.tensor([_hash(str(token)) for token in self._tokens])
            self._item_keys = keys.to(scores.device)
        return self._item_keys


def _chunks(rows: Tensor, width: int) -> tuple[Tensor, ...]:
    """Parts of rows whose blocks of [part, width] elements stay small."""
    return torch.split(rows, max(CHUNK // width, 1))


def _count(compare: Callable[..., Tensor], block: Tensor, values: Tensor) -> Tensor:
    """How many of each row of [B, n] compare so with its value of [B]."""
    # Summing float32 is three times as fast as summing bool, and exact below 2^24 items.
    ones = torch.empty_like(block, dtype=torch.float32)
    return compare(block, values[:, None], out=ones).sum(1).long()


def _hash(text: str) -> int:
    digest = hashlib.blake2b(text.encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little", signed=True)


class Positives:
    """The distinct positives of a batch, by row."""

    def __init__(self, scores: Tensor, rows: Tensor, items: Tensor) -> None:
        self.n = scores.shape[1]
        rows, items = rows.to(scores.device), items.to(scores.device)
        self.keys = torch.unique(rows * self.n + items)  # sorted, [P]
        self.rows, self.items = self.keys // self.n, self.keys % self.n
        self.counts = torch.bincount(self.rows, minlength=len(scores))  # [B]
        self.scores = scores[self.rows, self.items]  # [P]

    def of_items(self, members: Tensor) -> Positives:
        """The positives whose item is in a group, members bool [n]."""
        part, chosen = copy.copy(self), members.to(self.items.device)[self.items]
        for name in ("keys", "rows", "items", "scores"):
            setattr(part, name, getattr(self, name)[chosen])
        part.counts = torch.bincount(part.rows, minlength=len(self.counts))
        return part

    def contain(self, items: Tensor) -> Tensor:
        """Whether each row's items are positives of it: int [B, k] -> bool [B, k]."""
        wanted = torch.arange(len(items), device=items.device)[:, None] * self.n + items
        if not len(self.keys):
            return torch.zeros_like(wanted, dtype=torch.bool)
        place = torch.searchsorted(self.keys, wanted).clamp_(max=len(self.keys) - 1)
        found: Tensor = self.keys[place] == wanted
        return found

    def count_of(self, values: Tensor) -> Tensor:
        """Number of each row's positives with each score: [B, k] -> int64 [B, k]."""
        counts = torch.zeros(values.shape, dtype=torch.int64, device=values.device)
        k = values.shape[1]
        for rows, scores in zip(_chunks(self.rows, k), _chunks(self.scores, k), strict=True):
            counts.index_add_(0, rows, (values[rows] == scores[:, None]).long())
        return counts


def mean_ranks(scores: Tensor, positives: Positives) -> Tensor:
    """RecBole's ``rec.meanrank``, float32 [B, 3].

    Sum of the average ranks of a row's positives, number of items above the row's lowest score
    (that of masked items), number of positives.
    """
    n = scores.shape[1]
    sums = torch.zeros(len(scores), dtype=torch.float64, device=scores.device)
    for rows, own in zip(_chunks(positives.rows, n), _chunks(positives.scores, n), strict=True):
        others = scores[rows]  # [C, n]
        above, up_to = _count(torch.gt, others, own), _count(torch.ge, others, own)
        sums.index_add_(0, rows, (above.double() + up_to + 1) / 2)
    ranked = torch.cat([n - _count(torch.eq, part, part.amin(1)) for part in _chunks(scores, n)])
    return torch.stack((sums.float(), ranked.float(), positives.counts.float()), dim=1)
