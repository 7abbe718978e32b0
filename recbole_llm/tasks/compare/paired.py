"""Significance tests over users of a comparison's models against its baseline."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from pandas import DataFrame, concat

from recbole_llm.tasks.compare.cells import Cell
from recbole_llm.tasks.compare.significance import Difference, holm, paired_differences

LEVEL = 0.05  # significance level of the tests, after correction
_BOTH = ("ours", "theirs")


@dataclass(frozen=True)
class PairedTest:
    """A model's test against the baseline in one metric, over users, corrected for all models."""

    label: str
    metric: str
    difference: Difference  # over users, averaged over seeds first
    baseline: float  # the baseline's mean over the same users and seeds
    p: float  # after Holm's correction
    seeds: int  # number of seeds that both have
    left_out: int = 0  # users that one of the two was not tested on: maximum over seeds

    @property
    def significant(self) -> bool:
        """Whether the difference is significant after correction."""
        return self.p < LEVEL


def compare_with_baseline(
    baseline: Sequence[Cell], others: Mapping[str, Sequence[Cell]], metrics: Sequence[str]
) -> list[PairedTest]:
    """Test every other model in every metric for which both models have a value of every user.

    Raises:
        ValueError: two models were not tested on the same items.
    """
    theirs = {cell.seed: cell for cell in baseline}
    pairs = {
        label: [_join_users(cell, theirs[cell.seed]) for cell in own if cell.seed in theirs]
        for label, own in others.items()
    }
    means = {
        label: _average_over_seeds([both for both, _ in own]) for label, own in pairs.items() if own
    }
    found = {label: _test_differences(table, metrics) for label, table in means.items()}
    tests = []
    for metric in metrics:
        differences = {label: own[metric] for label, own in found.items() if metric in own}
        bases = {label: float(means[label]["theirs", metric].mean()) for label in differences}
        corrected = holm([difference.p for difference in differences.values()])
        for (label, difference), p in zip(differences.items(), corrected):
            left_out = max(missing for _, missing in pairs[label])
            seeds = len(pairs[label])
            tests.append(PairedTest(label, metric, difference, bases[label], p, seeds, left_out))
    return tests


def _test_differences(table: DataFrame, metrics: Sequence[str]) -> dict[str, Difference]:
    """Test the metrics for which both models have values."""
    known = [
        metric
        for metric in metrics
        if all((model, metric) in table for model in _BOTH)
        and np.isfinite(table.loc[:, (slice(None), metric)]).all(axis=None)  # GAUC may be missing
    ]
    if not known:
        return {}
    return dict(zip(known, paired_differences(*(table[m][known].to_numpy() for m in _BOTH))))


def _join_users(ours: Cell, theirs: Cell) -> tuple[DataFrame, int]:
    """Metrics of the users that both runs were tested on, by model and metric; and the number of
    users that only one run was tested on.

    Leave-one-out tests users with two interactions in general models, but not in sequential models,
    which have no row for the first interaction.

    Raises:
        ValueError: the runs were not tested on the same items.
    """
    tables = [_read_user_metrics(cell) for cell in (ours, theirs)]
    both = concat(tables, axis=1, join="inner", keys=_BOTH)
    first, second = (both.pop((model, "tested")) for model in _BOTH)
    if both.empty or (first != second).any():
        raise ValueError(
            f"{ours.name} and {theirs.name} were not tested on the same items, so they cannot be "
            f"compared; give all models the same filters and split"
        )
    return both, sum(map(len, tables)) - 2 * len(both)


def _read_user_metrics(cell: Cell) -> DataFrame:
    users = cell.users
    names = [name for name in users if name.startswith(("metric ", "tested"))]
    columns = {name.removeprefix("metric "): users[name] for name in names}
    return DataFrame(columns, index=users["users"])


def _average_over_seeds(tables: Sequence[DataFrame]) -> DataFrame:
    """Each user's share of the mean over seeds, for the metrics that all seeds have. Its mean over
    users is the mean of the seeds' means, even if seeds test different users."""
    users = concat(tables, join="inner").index.unique()
    shares = [table * (len(users) / len(table) / len(tables)) for table in tables]
    return concat(shares, join="inner").groupby(level=0).sum()
