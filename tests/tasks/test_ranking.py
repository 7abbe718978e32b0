"""The best of a row of scores."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from recbole_llm.tasks.ranking import Ranker


@given(
    n=st.integers(1, 700), k=st.integers(1, 12), levels=st.sampled_from([2, 50, 10**6]), seed=...
)
def test_the_best_are_those_of_a_full_sort(n: int, k: int, levels: int, seed: int) -> None:
    """With ties and excluded items too; 700 columns are more than the groups are made from."""
    rng, k = np.random.default_rng(abs(seed)), min(k, n)
    scores = rng.integers(0, levels, (3, n)).astype(np.float32)
    scores[rng.random((3, n)) < 0.2] = -np.inf
    best, ids = Ranker().top(scores, k)
    np.testing.assert_array_equal(best, -np.sort(-scores, axis=1)[:, :k])
    np.testing.assert_array_equal(np.take_along_axis(scores, ids, 1), best)
    assert all(len(set(row)) == k for row in ids.tolist())
