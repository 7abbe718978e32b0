"""Paired tests over users between models, corrected for the number of tests."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import stats

from recbole_llm.core.arrays import FloatArray

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
    return [
        _make_difference(own, float(low), float(high))
        for own, low, high in zip(differences.T, *ends, strict=True)
    ]


def _make_difference(difference: FloatArray, low: float, high: float) -> Difference:
    differing = difference[difference != 0]  # the others stay 0 whatever their sign
    users = (len(differing), len(difference))
    return Difference(float(difference.mean()), low, high, _permutation_p(differing), users)


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
