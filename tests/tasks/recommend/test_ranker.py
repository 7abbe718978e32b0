"""The best items of a row of scores."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from recbole_llm.tasks.recommend.ranker import Ranker, ScoredUsers
from recbole_llm.tasks.recommend.request import ResolvedRequest
from recbole_llm.tasks.recommend.top import top_k


@given(
    n=st.integers(1, 700), k=st.integers(1, 12), levels=st.sampled_from([2, 50, 10**6]), seed=...
)
def test_the_best_are_those_of_a_full_sort(n: int, k: int, levels: int, seed: int) -> None:
    """Rows have ties and excluded items; long ones, up to 700 columns, are searched by groups."""
    rng, k = np.random.default_rng(abs(seed)), min(k, n)
    scores = rng.integers(0, levels, (3, n)).astype(np.float32)
    scores[rng.random((3, n)) < 0.2] = -np.inf
    scores[0, [0, -1]] = levels  # the best are in the first group, and after the last one
    best, ids = top_k(scores, k)
    np.testing.assert_array_equal(best, -np.sort(-scores, axis=1)[:, :k])
    np.testing.assert_array_equal(np.take_along_axis(scores, ids, 1), best)
    assert all(len(set(row)) == k for row in ids.tolist())
    first = np.argsort(-scores, axis=1, kind="stable")[:, :k]  # the first of tied items
    np.testing.assert_array_equal(ids[np.isfinite(best)], first[np.isfinite(best)])


class _Scored(Ranker):
    """A model with these scores for every user."""

    def __init__(self, scores: list[float]) -> None:
        self.scores = np.array([scores], np.float32)
        self.item_tokens = np.array(["", *"abcd"], dtype=object)

    titles: dict[str, str] = {}  # noqa: RUF012

    def score_users(self, request: ResolvedRequest) -> Iterator[ScoredUsers]:
        yield ScoredUsers(["u"], [np.zeros(0, np.int64)], self.scores)


@pytest.mark.parametrize(
    ("scores", "items"),
    [
        ([0, 0.3, np.nan, 0.5, 0.4], "cd"),
        ([0, 0.3, np.inf, 0.5, 0.4], "bc"),
        ([0, np.nan, np.nan, np.nan, 0.4], "d"),
    ],
)
def test_a_score_that_is_none_is_the_lowest(scores: list[float], items: str) -> None:
    allowed = np.array([False, True, True, True, True])
    request = ResolvedRequest(np.array([1]), {}, None, None, allowed, k=2, mask_history=False)
    (frame,) = _Scored(scores).stream(request)
    assert list(frame["item"]) == list(items)
    assert list(frame["rank"]) == list(range(1, len(items) + 1))
