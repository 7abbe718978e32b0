"""Significance tests over users of a comparison's models against its baseline."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from pandas import DataFrame, concat
from scipy import stats

from recbole_llm.core.arrays import FloatArray
from recbole_llm.tasks.compare.cells import Cell

LEVEL = 0.05  # significance level of the tests, after correction
_BOTH = ("ours", "theirs")
RESAMPLES = 9_999
_SEED = 0
_BATCH = 100  # resamples at once; memory is this many times the users
_OPTIONS: dict[str, Any] = {"n_resamples": RESAMPLES, "batch": _BATCH, "vectorized": True}


@dataclass(frozen=True)
class Difference:
    """The difference of two models, as a mean over users."""

    mean: float  # the first model's metric minus the second's
    low: float  # 95 % interval, by the bootstrap over users
    high: float
    p: float  # two-sided, of the permutation test
    users: tuple[int, int]  # how many differ, and how many there are in all


def paired_differences(first: FloatArray, second: FloatArray) -> list[Difference]:
    """Compare two models over the same users, in each metric: a permutation test of the mean, and
    an interval.

    Args:
        first, second: value of each user in each metric, [U, M], in the same order.

    Returns:
        the differences; p is 1 if fewer than two users differ.
    """
    differences = first - second
    ends = _bootstrap_intervals(differences) if len(differences) > 1 else [differences[0]] * 2
    found = []
    for own, low, high in zip(differences.T, *ends, strict=True):
        differing = own[own != 0]  # the others stay 0 whatever their sign
        p, users = _permutation_p(differing), (len(differing), len(own))
        found.append(Difference(float(own.mean()), float(low), float(high), p, users))
    return found


def _bootstrap_intervals(differences: FloatArray) -> FloatArray:
    """Ends of 95 % intervals of means over users, [2, M]: the percentile bootstrap, with the same
    resampled users for all metrics."""
    rng, count = np.random.default_rng(_SEED), len(differences)
    means = []
    for first in range(0, RESAMPLES, _BATCH):
        times = np.empty((min(_BATCH, RESAMPLES - first), count))  # how often each is drawn, [b, U]
        for row in times:
            row[:] = np.bincount(rng.integers(count, size=count), minlength=count)
        means.append(times @ differences / count)
    return np.percentile(np.concatenate(means), [2.5, 97.5], axis=0)


def _permutation_p(differing: FloatArray) -> float:
    """The p value under random signs; 1 for a single user, whose signs are equally likely."""
    if len(differing) < 2:
        return 1.0
    if 2 ** len(differing) <= RESAMPLES:  # all patterns of signs
        exact = stats.permutation_test(
            (differing, np.zeros_like(differing)),
            lambda x, y, axis: (x - y).sum(axis=axis),
            permutation_type="samples",
            **_OPTIONS,
        )
        return float(exact.pvalue)
    rng = np.random.default_rng(_SEED)
    # Signs drawn in one call: scipy's permutation test of so many users takes 20 times as long.
    test = stats.monte_carlo_test(
        differing,
        lambda size: (2 * rng.integers(2, size=size, dtype=np.int8) - 1) * differing,
        lambda values, axis: values.sum(axis=axis),
        **_OPTIONS,
    )
    return float(test.pvalue)


def holm(p_values: Sequence[float]) -> list[float]:
    """p values corrected for multiple tests by Holm's step-down method (1979); same order."""
    p, count = np.asarray(p_values, float), len(p_values)
    order = p.argsort(kind="stable")
    corrected = np.empty(count)
    corrected[order] = np.maximum.accumulate(p[order] * np.arange(count, 0, -1)).clip(max=1)
    return [float(value) for value in corrected]


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
    tests: dict[str, list[PairedTest]] = {metric: [] for metric in metrics}
    for label, own in others.items():
        pairs = [_join_users(cell, theirs[cell.seed]) for cell in own if cell.seed in theirs]
        if not pairs:
            continue
        table, left_out = _average_over_seeds([both for both, _ in pairs]), max(n for _, n in pairs)
        for metric, found in _test_differences(table, metrics).items():
            base = float(table["theirs", metric].mean())
            test = PairedTest(label, metric, found, base, found.p, len(pairs), left_out)
            tests[metric].append(test)
    return [
        replace(test, p=p)
        for of_metric in tests.values()
        for test, p in zip(of_metric, holm([test.p for test in of_metric]))
    ]


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
