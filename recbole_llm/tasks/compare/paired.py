"""Models of a comparison against its baseline, tested over users."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from recbole_llm.evaluation.by_user import FloatArray
from recbole_llm.evaluation.significance import Difference, holm, paired_difference
from recbole_llm.tasks.compare.cells import Cell

LEVEL = 0.05  # of the tests, after correction
Users = Mapping[str, Any]


@dataclass(frozen=True)
class Tested:
    """A model against the baseline: in a metric, over users, corrected for the other models.

    Args:
        label: of the model.
        metric: its name.
        difference: over users, averaged over seeds first.
        p: its p value after Holm's correction.
        seeds: that both have.
        left_out: users that one of the two was not tested on, at most of a seed.
    """

    label: str
    metric: str
    difference: Difference
    p: float
    seeds: int
    left_out: int = 0

    @property
    def significant(self) -> bool:
        """Whether it is, after correction."""
        return self.p < LEVEL


def against(
    baseline: Sequence[Cell], others: Mapping[str, Sequence[Cell]], metrics: Sequence[str]
) -> list[Tested]:
    """Every other model in every metric that both have of their users, and that has a value.

    Raises:
        ValueError: two were not tested on the same items.
    """
    found = {label: _paired(own, baseline) for label, own in others.items()}
    pairs = {label: pair for label, (pair, _) in found.items() if pair}
    left_out = {label: missing for label, (_, missing) in found.items()}
    tests = []
    for metric in metrics:
        values = {
            label: _over_seeds(pair, f"metric {metric}")
            for label, pair in pairs.items()
            if all(f"metric {metric}" in users for both in pair for users in both)
        }
        differences = {
            label: paired_difference(*both)
            for label, both in values.items()
            if np.isfinite(both).all()  # GAUC has none where each user has one label
        }
        corrected = holm([difference.p for difference in differences.values()])
        for (label, difference), p in zip(differences.items(), corrected):
            seeds, missing = len(pairs[label]), left_out[label]
            tests.append(Tested(label, metric, difference, p, seeds, missing))
    return tests


def _paired(
    cells: Sequence[Cell], baseline: Sequence[Cell]
) -> tuple[list[tuple[Users, Users]], int]:
    """Users that both models were tested on, of each seed that both have; how many one was not.

    Leave-one-out tests a user of two interactions with general models, not with sequential ones,
    for which the first is no row.

    Raises:
        ValueError: they were not tested on the same items.
    """
    theirs = {cell.seed: cell for cell in baseline}
    pairs, left_out = [], 0
    for cell in cells:
        if cell.seed not in theirs:
            continue
        ours, others = cell.users, theirs[cell.seed].users
        names = np.intersect1d(ours["users"], others["users"])
        pair = _of(names, ours), _of(names, others)
        if not len(names) or not np.array_equal(pair[0]["tested"], pair[1]["tested"]):
            raise ValueError(
                f"{cell.name} and {theirs[cell.seed].name} were not tested on the same items, so "
                f"they cannot be compared; give all models the same filters and split"
            )
        pairs.append(pair)
        left_out = max(left_out, len(ours["users"]) + len(others["users"]) - 2 * len(names))
    return pairs, left_out


def _of(names: Any, users: Users) -> Users:
    """Some users, in this order: models number them each in its own way."""
    order = users["users"].argsort()
    rows = order[np.searchsorted(users["users"], names, sorter=order)]
    of_users = {k: v[rows] for k, v in users.items() if k.startswith(("metric ", "tested"))}
    return {"users": names, **of_users}


def _over_seeds(pairs: Sequence[tuple[Users, Users]], key: str) -> tuple[FloatArray, FloatArray]:
    """Each user's mean over the seeds in which it was tested, of both models: [U] each."""
    names = np.unique(np.concatenate([ours["users"] for ours, _ in pairs]))
    sums, counts = np.zeros((2, len(names))), np.zeros(len(names))
    for ours, theirs in pairs:
        place = np.searchsorted(names, ours["users"])
        sums[:, place] += ours[key], theirs[key]
        counts[place] += 1
    first, second = sums / counts
    return first, second
