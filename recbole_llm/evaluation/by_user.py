"""Metrics of each test user: what tests over users compare, as a file of plain arrays.

A user's value is such that the mean over users is the metric. Where each user has one row, as in
full ranking, it is the row's. Elsewhere it is what the user's rows add to the metric, times the
number of users: 0 of a user without rows, so that two models do not differ for that user. Of AUC
these are the placements of DeLong et al. (Biometrics 1988), summed by user as Obuchowski
(Biometrics 1997) does for clustered data.
"""

from __future__ import annotations

import copy
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
from pandas import Series
from recbole.data.dataset import Dataset
from recbole.evaluator.collector import DataStruct

from recbole_llm.core.arrays import BoolArray, FloatArray, IntArray
from recbole_llm.core.digest import short_digests
from recbole_llm.core.files import written_whole
from recbole_llm.evaluation.groups import PAIRS, USERS

SHOWN = 100  # users whose lists are kept
_WAY_OUT = "name another file with --user_metrics"


@dataclass(frozen=True)
class ByUser:
    """The values of each user that an evaluation leaves, in internal ids."""

    users: IntArray  # ascending, int [U]
    values: Mapping[str, FloatArray]  # {``ndcg@10``: float [U]}, before rounding
    pairs: IntArray  # users and the items that they were tested on, int [P, 2]
    # of rankings, the user of each row, int [R]
    row_users: IntArray = field(default_factory=lambda: np.zeros(0, np.int64))
    # of rankings, the best items of each row, int [R, k]
    lists: IntArray = field(default_factory=lambda: np.zeros((0, 0), np.int64))

    def save(self, file: str | os.PathLike[str], dataset: Dataset) -> None:
        """Write it in external ids, as .npz: users, tested, one array a metric, shown lists.

        Raises:
            ValueError: it cannot be written.
        """
        fields = (dataset.uid_field, dataset.iid_field)
        user_names, item_names = (np.array(dataset.field2id_token[f], np.str_) for f in fields)
        keys = short_digests(name.encode() for name in item_names).view(np.uint64)
        place = np.searchsorted(self.users, self.pairs[:, 0])
        tested = np.zeros(len(self.users), np.uint64)
        np.add.at(tested, place, keys[self.pairs[:, 1]])
        shown = self._choose_shown_rows(user_names)
        targets = self.pairs[np.isin(self.pairs[:, 0], self.row_users[shown])]
        arrays: dict[str, npt.NDArray[Any]] = {
            "users": user_names[self.users],
            "tested": tested,
            "shown_users": user_names[self.row_users[shown]],
            "shown_items": item_names[self.lists[shown]],
            "target_users": user_names[targets[:, 0]],
            "target_items": item_names[targets[:, 1]],
        }
        arrays |= {f"metric {name}": values for name, values in self.values.items()}
        with written_whole(file, _WAY_OUT) as opened:
            np.savez_compressed(opened, **arrays)  # type: ignore[arg-type]

    def _choose_shown_rows(self, names: npt.NDArray[np.str_]) -> IntArray:
        """A row of each of a few users, the same for every model: drawn by name."""
        users, rows = np.unique(self.row_users, return_index=True)
        order = short_digests(str(name).encode() for name in names[users]).argsort()
        return rows[order[:SHOWN]]


def evaluate_rankings_by_user(collected: DataStruct, columns: Mapping[str, FloatArray]) -> ByUser:
    """Values of full or sampled ranking.

    Args:
        collected: with users and pairs of `ranking.RankingCollector`, and ``rec.items``.
        columns: what `calculate_by_row` put there.
    """
    row_users = collected.get(USERS).numpy()
    users, rows = np.unique(row_users, return_inverse=True)
    values = {name: split_mean_by_user(rows, column) for name, column in columns.items()}
    pairs, lists = collected.get(PAIRS).numpy(), collected.get("rec.items").numpy()
    return ByUser(users, values, pairs, row_users, lists)


def calculate_by_row(metric: Any, collected: DataStruct, columns: dict[str, FloatArray]) -> Any:
    """A metric's result; of a mean over rows, `columns` takes their values at each k, [R]."""
    if not hasattr(metric, "topk_result"):
        return metric.calculate_metric(collected)

    def topk_result(name: str, value: Any) -> Any:
        columns.update({f"{name}@{k}": value[:, k - 1] for k in metric.topk})
        return metric.topk_result(name, value)

    apart = copy.copy(metric)
    apart.topk_result = topk_result
    return apart.calculate_metric(collected)


def evaluate_labels_by_user(
    users: IntArray, items: IntArray, scores: FloatArray, labels: FloatArray, metrics: Sequence[str]
) -> ByUser:
    """AUC, LogLoss and GAUC of single predictions, those asked for; arrays of rows, [N]."""
    names, rows = np.unique(users, return_inverse=True)
    positive = labels == 1
    values: dict[str, FloatArray] = {}
    if "auc" in metrics and 0 < positive.sum() < len(positive):
        values["auc"] = split_auc_by_user(rows, scores, positive)
    if "logloss" in metrics:
        p = np.clip(scores.astype(np.float64), 1e-15, 1 - 1e-15)  # as RecBole's
        values["logloss"] = split_mean_by_user(rows, -np.where(positive, np.log(p), np.log1p(-p)))
    if "gauc" in metrics:
        place, aucs, sizes = compute_user_aucs(rows, scores, labels)
        if len(aucs):
            values["gauc"] = split_mean_by_user(place, aucs, sizes, len(names))
    return ByUser(names, values, np.stack([users, items], axis=1)[positive])


def compute_user_aucs(users: IntArray, scores: Any, labels: Any) -> tuple[IntArray, Any, IntArray]:
    """The users with both classes, ascending, their AUCs and their numbers of rows.

    Args:
        users: int [N].
        scores: float [N]; rows that tie count as half in order.
        labels: [N]; 1 is positive, as in RecBole's AUC.
    """
    names, user, size = np.unique(users, return_inverse=True, return_counts=True)
    positive = labels == 1
    rank = Series(scores).groupby(user).rank().to_numpy()  # ties share their mean
    positives = np.bincount(user, positive, len(names))  # [U]
    pairs = positives * (size - positives)
    ordered = np.bincount(user, rank * positive, len(names)) - positives * (positives + 1) / 2
    both = pairs > 0
    return names[both], ordered[both] / pairs[both], size[both]


def split_mean_by_user(
    users: IntArray, values: FloatArray, weights: Any = None, n_users: int | None = None
) -> FloatArray:
    """Split a (weighted) mean over rows into each user's value, float [U], whose mean it is.

    Args:
        users: 0 to U - 1, int [R].
        values: [R].
        weights: [R]; None: all alike.
        n_users: U; None: that of the users who have rows.
    """
    weights = np.ones(len(values)) if weights is None else np.asarray(weights, np.float64)
    count = int(users.max()) + 1 if n_users is None else n_users
    sums = np.bincount(users, weights * np.asarray(values, np.float64), minlength=count)
    return np.asarray(sums * (count / weights.sum()))


def split_auc_by_user(users: IntArray, scores: FloatArray, positive: BoolArray) -> FloatArray:
    """Split the AUC over all rows into each user's value, float [U]; their mean is the AUC.

    A pair of rows counts in the placements of both, so the mean of the users' placements is twice
    the AUC. One AUC is taken off by the users' shares of the rows.

    Args:
        users: 0 to U - 1, int [N].
        scores: [N]; ties count as half in order.
        positive: bool [N], of both kinds.
    """
    total = np.zeros(users.max() + 1)
    for own, sign in ((positive, 1), (~positive, -1)):
        others = np.sort(sign * scores[~own])
        below = np.searchsorted(others, sign * scores[own], "left")
        through = np.searchsorted(others, sign * scores[own], "right")
        placements = (below + through) / (2 * len(others))
        total += split_mean_by_user(
            users[own], placements - placements.mean() / 2, None, len(total)
        )
    return total
