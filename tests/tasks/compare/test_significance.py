"""Paired tests over users, against values worked out by hand."""

from __future__ import annotations

from dataclasses import astuple

import numpy as np
import pytest
from scipy.stats import binomtest, bootstrap, norm

from recbole_llm.core.arrays import FloatArray
from recbole_llm.tasks.compare.significance import Difference, holm, paired_differences


def paired_difference(first: FloatArray, second: FloatArray) -> Difference:
    return paired_differences(first[:, None], second[:, None])[0]


def test_a_permutation_test_of_four_users() -> None:
    """All differences have one sign: of the 16 patterns of signs, two are as extreme."""
    found = paired_difference(np.array([0.3, 0.2, 0.5, 0.1]), np.zeros(4))
    assert found.mean == pytest.approx(0.275) and found.p == 2 / 16
    assert 0.1 <= found.low < found.mean < found.high <= 0.5


def test_users_without_a_difference_count_in_the_mean_alone() -> None:
    """Three users differ, by 1, 1 and -1: 2 of the 8 patterns of signs sum to ±3, and 6 to ±1."""
    first, second = np.array([1.0, 1.0, 0.0, 0.5, 0.5, 0.5]), np.array([0, 0, 1, 0.5, 0.5, 0.5])
    found = paired_difference(first, second)
    assert found.mean == pytest.approx(1 / 6) and found.p == 1.0 and found.users == (3, 6)


def test_the_interval_is_that_of_the_normal_distribution_for_many_users() -> None:
    rng = np.random.default_rng(1)
    difference = rng.normal(0.02, 0.3, 4000)
    found = paired_difference(difference, np.zeros(4000))
    half = 1.96 * difference.std(ddof=1) / np.sqrt(4000)
    assert found.low == pytest.approx(difference.mean() - half, abs=6e-4)
    assert found.high == pytest.approx(difference.mean() + half, abs=6e-4)
    assert found.p < 0.001  # 4.2 standard errors


def test_intervals_are_those_of_scipys_bootstrap_one_metric_or_several() -> None:
    first = np.random.default_rng(3).normal(0.1, 1, (37, 2))
    both = paired_differences(first, np.zeros((37, 2)))
    for i, found in enumerate(both):
        expected = bootstrap(
            (first[:, i],), np.mean, method="percentile", n_resamples=9_999, batch=100,
            rng=np.random.default_rng(0),
        ).confidence_interval  # fmt: skip
        assert (found.low, found.high) == pytest.approx(tuple(expected), rel=1e-12)
        alone = paired_difference(first[:, i], np.zeros(37))
        assert astuple(found)[:4] == pytest.approx(astuple(alone)[:4], rel=1e-12)


@pytest.mark.parametrize("shift", [0.0, 0.1, 0.2])
def test_signs_that_are_drawn_give_the_p_of_the_normal_distribution(shift: float) -> None:
    """The sum of 200 values with random signs is nearly normal, with variance sum x^2."""
    difference = np.random.default_rng(2).normal(shift, 1, 200)
    z = abs(difference.sum()) / np.sqrt((difference**2).sum())
    assert paired_difference(difference, np.zeros(200)).p == pytest.approx(
        2 * norm.sf(z), abs=0.015
    )


@pytest.mark.parametrize("users", [13, 14])
def test_all_signs_and_drawn_ones_agree(users: int) -> None:
    """All differences are +1 but for three of -1, so that p is that of a fair binomial test."""
    difference = np.where(np.arange(users) < 3, -1.0, 1.0)
    found = paired_difference(difference, np.zeros(users)).p
    assert found == pytest.approx(binomtest(3, users).pvalue, abs=0.01)


def test_equal_models_do_not_differ_and_one_user_says_nothing() -> None:
    same = paired_difference(np.ones(5), np.ones(5))
    assert (same.mean, same.low, same.high, same.p) == (0, 0, 0, 1)
    assert paired_difference(np.ones(1), np.zeros(1)).p == 1


def test_a_single_user_who_differs_is_chance() -> None:
    found = paired_difference(np.eye(1, 100)[0], np.zeros(100))
    assert (found.mean, found.p, found.users) == (pytest.approx(0.01), 1.0, (1, 100))
    assert found.low == 0 and found.high > 0.01


def test_holm() -> None:
    """Sorted p of .01, .02, .03, .04, times 4, 3, 2, 1, kept from falling: .04, .06, .06, .06."""
    assert holm([0.04, 0.01, 0.03, 0.02]) == pytest.approx([0.06, 0.04, 0.06, 0.06])
    assert holm([0.6, 0.7]) == [1.0, 1.0] and holm([]) == []
