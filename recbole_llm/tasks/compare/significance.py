"""Whether one model is better than another: paired tests over users, corrected for their number."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import stats

from recbole_llm.evaluation.by_user import FloatArray

RESAMPLES = 9_999
_BATCH = 100  # resamples at once: memory for so many times the users
_OPTIONS: dict[str, Any] = {"n_resamples": RESAMPLES, "batch": _BATCH, "vectorized": True}


@dataclass(frozen=True)
class Difference:
    """Of two models, as a mean over users."""

    mean: float  # the first model's metric minus the second's
    low: float  # 95 % interval, by the bootstrap over users
    high: float
    p: float  # that signs as uneven come about by chance, two-sided
    users: tuple[int, int]  # how many differ, and how many there are


def paired_difference(first: FloatArray, second: FloatArray, seed: int = 0) -> Difference:
    """Compare two models over the same users: a permutation test of the mean, and an interval.

    Args:
        first, second: value of each user, [U], in the same order.

    Returns:
        the difference; p is 1 where no user differs, or a single one.
    """
    difference = first - second
    differing = difference[difference != 0]  # the others stay 0 whatever their sign
    if not len(differing):
        return Difference(0.0, 0.0, 0.0, 1.0, (0, len(difference)))
    if len(difference) == 1:
        only = float(difference[0])
        return Difference(only, only, only, 1.0, (1, 1))
    numbers = np.random.default_rng(seed)
    resampled = stats.bootstrap(
        (difference,), np.mean, method="percentile", rng=numbers, **_OPTIONS
    )
    interval = resampled.confidence_interval
    mean, low, high = map(float, (difference.mean(), interval.low, interval.high))
    p = _by_signs(differing, seed)
    return Difference(mean, low, high, p, (len(differing), len(difference)))


def _by_signs(differing: FloatArray, seed: int) -> float:
    """That signs as uneven come about by chance; either sign of a single user is as likely."""
    if len(differing) == 1:
        return 1.0
    if 2 ** len(differing) <= RESAMPLES:  # all patterns of signs
        exact = stats.permutation_test(
            (differing, np.zeros_like(differing)),
            lambda x, y, axis: (x - y).sum(axis=axis),
            permutation_type="samples",
            **_OPTIONS,
        )
        return float(exact.pvalue)
    rng = np.random.default_rng(seed)
    # Signs drawn in one call: scipy's permutation test of so many users takes 20 times as long.
    test = stats.monte_carlo_test(
        differing,
        lambda size: (2 * rng.integers(2, size=size, dtype=np.int8) - 1) * differing,
        lambda values, axis: values.sum(axis=axis),
        **_OPTIONS,
    )
    return float(test.pvalue)


def holm(p_values: Sequence[float]) -> list[float]:
    """p values corrected for being several, by Holm's step-down method (1979); same order."""
    p, count = np.asarray(p_values, float), len(p_values)
    order = p.argsort(kind="stable")
    corrected = np.empty(count)
    corrected[order] = np.maximum.accumulate(p[order] * np.arange(count, 0, -1)).clip(max=1)
    return [float(value) for value in corrected]
