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
    """

    label: str
    metric: str
    difference: Difference
    p: float
    seeds: int

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
    pairs = {label: _paired(own, baseline) for label, own in others.items()}
    pairs = {label: pair for label, pair in pairs.items() if pair}
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
            tests.append(Tested(label, metric, difference, p, len(pairs[label])))
    return tests


def _paired(cells: Sequence[Cell], baseline: Sequence[Cell]) -> list[tuple[Users, Users]]:
    """Users of both models, of each seed that both have.

    Raises:
        ValueError: they were not tested on the same items.
    """
    theirs = {cell.seed: cell for cell in baseline}
    pairs = []
    for cell in cells:
        if cell.seed not in theirs:
            continue
        pair = _sorted(cell.users), _sorted(theirs[cell.seed].users)
        if not all(np.array_equal(pair[0][key], pair[1][key]) for key in ("users", "tested")):
            raise ValueError(
                f"{cell.name} and {theirs[cell.seed].name} were not tested on the same users and "
                f"items, so they cannot be compared; give all models the same filters and split"
            )
        pairs.append(pair)
    return pairs


def _sorted(users: Users) -> Users:
    """By name: models number them each in its own way."""
    order = users["users"].argsort()
    of_users = {k: v[order] for k, v in users.items() if k.startswith(("metric ", "tested"))}
    return {"users": users["users"][order], **of_users}


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
