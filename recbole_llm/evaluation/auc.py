"""AUC within each user."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from recbole_llm.data.split import IntArray


def grouped_auc(users: IntArray, scores: Any, labels: Any) -> float:
    """Mean AUC of the users with both classes, weighted by their rows; nan without any.

    Args:
        users: int [N].
        scores: float [N]; rows that tie count as half in order.
        labels: [N]; 1 is positive, as in RecBole's AUC.
    """
    _, aucs, sizes = user_aucs(users, scores, labels)
    return float(np.average(aucs, weights=sizes)) if len(aucs) else float("nan")


def user_aucs(users: IntArray, scores: Any, labels: Any) -> tuple[IntArray, Any, IntArray]:
    """The users with both classes, ascending, their AUCs and their numbers of rows; see
    `grouped_auc`."""
    order = np.lexsort((scores, users))
    users, scores, positive = users[order], scores[order], labels[order] == 1
    new_user = np.r_[True, users[1:] != users[:-1]][: len(users)]
    new_score = np.r_[True, scores[1:] != scores[:-1]][: len(users)]
    user, tie = np.cumsum(new_user) - 1, np.cumsum(new_user | new_score) - 1  # [N]
    place = np.arange(len(users)) - np.flatnonzero(new_user)[user] + 1
    rank = (np.bincount(tie, place) / np.bincount(tie))[tie]  # ties share their mean
    size, positives = np.bincount(user), np.bincount(user, positive)  # [U]
    pairs = positives * (size - positives)
    ordered = np.bincount(user, rank * positive) - positives * (positives + 1) / 2
    both = pairs > 0
    return users[new_user][both], ordered[both] / pairs[both], size[both]
