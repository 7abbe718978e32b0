"""Metrics of each test user, which significance tests compare, as a file of plain arrays.

Users' values are defined so that their mean is the metric. If each user has one row, as in full
ranking, the user's value is that of the row. Otherwise it is what the user's rows contribute to the
metric, times the number of users. A user without rows has 0, so that two models do not differ for
that user. For AUC the contributions are the placements of DeLong et al. (Biometrics 1988), summed
by user as Obuchowski (Biometrics 1997) does for clustered data.
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
    """Each user's values from an evaluation, in internal ids."""

    users: IntArray  # ascending, int [U]
    values: Mapping[str, FloatArray]  # {``ndcg@10``: float [U]}, before rounding
    pairs: IntArray  # users and the items that they were tested on, int [P, 2]
    # for rankings, the user of each row, int [R]
    row_users: IntArray = field(default_factory=lambda: np.zeros(0, np.int64))
    # for rankings, the best items of each row, int [R, k]
    lists: IntArray = field(default_factory=lambda: np.zeros((0, 0), np.int64))

    def save(self, file: str | os.PathLike[str], dataset: Dataset) -> None:
        """Write the values in external ids, as .npz: users, tested, an array per metric, lists.

        Raises:
            ValueError: the file cannot be written.
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
        """One row of each of a few users, who are drawn by name and so the same for every model."""
        users, rows = np.unique(self.row_users, return_index=True)
        order = short_digests(str(name).encode() for name in names[users]).argsort()
        return rows[order[:SHOWN]]


def evaluate_rankings_by_user(collected: DataStruct, columns: Mapping[str, FloatArray]) -> ByUser:
    """Values of full or sampled ranking.

    Args:
        collected: what a `ranking.RankingCollector` collected, with users, pairs, ``rec.items``.
        columns: the values by row that `calculate_by_row` stored.
    """
    row_users = collected.get(USERS).numpy()
    users, rows = np.unique(row_users, return_inverse=True)
    values = {name: split_mean_by_user(rows, column) for name, column in columns.items()}
    pairs, lists = collected.get(PAIRS).numpy(), collected.get("rec.items").numpy()
    return ByUser(users, values, pairs, row_users, lists)


def calculate_by_row(metric: Any, collected: DataStruct, columns: dict[str, FloatArray]) -> Any:
    """A metric's result; if it is a mean over rows, add its [R] values at each k to `columns`."""
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
    """Users' values of AUC, LogLoss and GAUC, if in `metrics`, of single predictions, [N] each."""
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
    """Split a (weighted) mean over rows into users' values, float [U], whose mean equals it.

    Args:
        users: 0 to U - 1, int [R].
        values: [R].
        weights: [R]; None: equal weights.
        n_users: U; None: one more than the largest of `users`.
    """
    weights = np.ones(len(values)) if weights is None else np.asarray(weights, np.float64)
    count = int(users.max()) + 1 if n_users is None else n_users
    sums = np.bincount(users, weights * np.asarray(values, np.float64), minlength=count)
    return np.asarray(sums * (count / weights.sum()))


def split_auc_by_user(users: IntArray, scores: FloatArray, positive: BoolArray) -> FloatArray:
    """Split the AUC over all rows into users' values, float [U], whose mean is the AUC.

    A pair of rows counts in the placements of both, so the mean of the users' placements is twice
    the AUC. The AUC is then subtracted once, split by the users' shares of the rows.

    Args:
        users: 0 to U - 1, int [N].
        scores: [N]; ties count as half in order.
        positive: bool [N], with both values.
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
