"""Beyond-accuracy metrics of recommended lists, besides RecBole's ItemCoverage, AveragePopularity,
GiniIndex, ShannonEntropy and TailPercentage. Legend: R rows, k length of the lists."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from recbole.evaluator.base_metric import TopkMetric
from recbole.evaluator.collector import DataStruct

from recbole_llm.core.config import Config
from recbole_llm.core.keys.evaluation import RecBoleEvaluation
from recbole_llm.core.metrics import is_read_by
from recbole_llm.features.attach import model_reads
from recbole_llm.features.settings import ItemSettings

COUNTS, VECTORS = "data.training_counts", "data.item_vectors"  # inputs that the collector adds
_ROWS = 256  # computed at once


def run_reads(config: Config) -> tuple[str, ...]:
    """Names of the features that a run reads: its model's, and item vectors for metrics."""
    names = model_reads(config)
    if vector_metrics(config):
        names = (*names, ItemSettings.of(config).item_feature)
    return tuple(dict.fromkeys(names))


def vector_metrics(config: Config) -> list[str]:
    """The metrics of a run that read item vectors."""
    return [name for name in RecBoleEvaluation.of(config).metrics if is_read_by([name], VECTORS)]


class _ListMetric(TopkMetric):  # type: ignore[misc]
    """Base of metrics with a value for each row and list length, [R, k], averaged over rows."""

    def calculate_metric(self, dataobject: DataStruct) -> dict[str, float]:
        """``{"novelty@10": …}``."""
        return self.topk_result(type(self).__name__.lower(), self.row_values(dataobject))

    def row_values(self, collected: DataStruct) -> Any:
        """Value of each row's first 1, 2, … items, float [R, k]."""
        raise NotImplementedError


def _compute_by_rows(values: Callable[[slice], Any], count: int) -> Any:
    """Compute values of all rows, [R, k], some rows at a time, to keep temporary arrays small."""
    return np.concatenate([values(slice(i, i + _ROWS)) for i in range(0, count, _ROWS)])


class Novelty(_ListMetric):
    """Mean self-information of the items in bits, log2(all training interactions / the item's)
    (Zhou et al., PNAS 2010). An item without training interactions counts as having one."""

    metric_need = ["rec.items", COUNTS]

    def row_values(self, collected: DataStruct) -> Any:
        """Values of each row at each length, float [R, k]."""
        counts = collected.get(COUNTS)
        bits = np.log2(max(counts.sum(), 1) / counts.clip(1))
        listed = bits[collected.get("rec.items").numpy()]  # [R, k]
        return listed.cumsum(1) / np.arange(1, listed.shape[1] + 1)


class Serendipity(_ListMetric):
    """Share of the list that is relevant and not obvious, that is, not among the k items with the
    most training interactions (Ge et al., RecSys 2010)."""

    metric_need = ["rec.items", "rec.topk", COUNTS]

    def row_values(self, collected: DataStruct) -> Any:
        """Values of each row at each length, float [R, k]."""
        items = collected.get("rec.items").numpy()
        hits = collected.get("rec.topk").numpy()[:, :-1].astype(bool)
        counts = collected.get(COUNTS)
        rank = np.empty(len(counts), np.int64)  # by popularity, from 0; the padding is last
        rank[np.argsort(-counts[1:], kind="stable") + 1] = np.arange(len(counts) - 1)
        rank[0] = len(counts)
        lengths = np.arange(1, items.shape[1] + 1)
        within = np.tri(len(lengths), dtype=bool).T  # a place counts in lists long enough

        def right_shares(part: slice) -> Any:
            right = hits[part, :, None] & (rank[items[part], None] >= lengths)  # [r, place, length]
            return (right & within).sum(1) / lengths

        return _compute_by_rows(right_shares, len(items))


class Diversity(_ListMetric):
    """One minus the mean cosine of all pairs of items in the list, by the vectors of
    `item_feature` (Ziegler et al., WWW 2005); 0 for a list of one item."""

    metric_need = ["rec.items", VECTORS]

    def row_values(self, collected: DataStruct) -> Any:
        """Values of each row at each length, float [R, k]."""
        vectors = collected.get(VECTORS)
        norms = np.linalg.norm(vectors, axis=1, keepdims=True)
        units = vectors / np.where(norms > 0, norms, 1)
        items = collected.get("rec.items").numpy()
        return _compute_by_rows(lambda part: self._mean_distances(units[items[part]]), len(items))

    def _mean_distances(self, units: Any) -> Any:
        """One minus the mean cosine at each length: [r, k, D] -> [r, k]."""
        cosines = np.tril(units @ units.transpose(0, 2, 1), -1)  # [r, k, k], each pair once
        lengths = np.arange(1, units.shape[1] + 1)
        pairs = np.maximum(lengths * (lengths - 1) / 2, 1)
        return np.where(lengths > 1, 1 - cosines.sum(2).cumsum(1) / pairs, 0.0)
