"""Order, groups and cuts of rows."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from recbole_llm.data.rows.split import Groups, sorted_unique, stable_order, user_time_order

SHORT = hnp.array_shapes(max_dims=1, min_side=0, max_side=80)


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int64, np.int32, np.uint8])
@given(data=st.data())
def test_stable_order_is_numpys(dtype: Any, data: st.DataObject) -> None:
    keys = data.draw(hnp.arrays(dtype, SHORT))
    repeated = np.concatenate([keys, keys[::-1]])  # ties
    assert np.array_equal(stable_order(repeated), np.argsort(repeated, kind="stable"))


@pytest.mark.parametrize(
    "keys",
    [
        np.array([0.0, -0.0, 1, -1, np.inf, -np.inf, 0.0, -0.0], np.float32),
        np.array([np.nan, 1, np.nan, -2], np.float32),
        np.array([2**40 + 1, 2**40, 70_000, 5, 65_536, 2**62]),
        np.array([], np.int64),
    ],
)
def test_stable_order_at_the_edges(keys: Any) -> None:
    assert np.array_equal(stable_order(keys), np.argsort(keys, kind="stable"))


def test_rows_of_one_user_and_time_keep_their_order() -> None:
    users = np.tile([2, 1], 200)
    order = user_time_order(users, np.zeros(400))
    assert order.tolist() == [*range(1, 400, 2), *range(0, 400, 2)]


@given(hnp.arrays(np.int64, SHORT, elements=st.integers(-9, 9)))
def test_sorted_unique_is_numpys(keys: Any) -> None:
    found = sorted_unique(keys)
    assert np.array_equal(found, np.unique(keys)) and found.dtype == keys.dtype


@given(hnp.arrays(np.int64, SHORT, elements=st.integers(0, 9)))
def test_groups_are_in_order_of_appearance(keys: Any) -> None:
    expected: dict[int, list[int]] = {}
    for row, key in enumerate(keys.tolist()):
        expected.setdefault(key, []).append(row)
    groups = Groups.of(keys)
    assert len(groups.sizes) == len(expected)
    parts = np.split(groups.rows, groups.starts[1:])
    assert [rows.tolist() for rows in parts][: len(expected)] == list(expected.values())
    assert groups.sums(np.ones(len(keys), np.int64)).tolist() == groups.sizes.tolist()


def test_cut() -> None:
    groups = Groups.of(np.array([7, 3, 7, 7, 3]))  # rows 0 2 3, rows 1 4
    first, second = groups.cut([np.array([1, 2]), groups.sizes])
    assert first.tolist() == [0, 1, 4]
    assert second.tolist() == [2, 3]
