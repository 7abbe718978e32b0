from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from recbole_llm.features.encoders.batching import token_batches


def test_batches_by_hand() -> None:
    assert list(token_batches([5, 1, 3, 1, 9], budget=6)) == [[1, 3, 2], [0], [4]]
    assert list(token_batches([5, 1, 3, 1], budget=6, padded=True)) == [[1, 3], [2], [0]]
    assert list(token_batches([], budget=6)) == []


@given(st.lists(st.integers(1, 60)), st.integers(1, 100), st.booleans())
def test_every_sequence_is_in_one_batch_within_budget(
    lengths: list[int], budget: int, padded: bool
) -> None:
    batches = list(token_batches(lengths, budget, padded))
    order = [i for batch in batches for i in batch]
    assert sorted(order) == list(range(len(lengths)))
    assert [lengths[i] for i in order] == sorted(lengths)
    for batch in batches:
        own = [lengths[i] for i in batch]
        assert len(batch) == 1 or (len(own) * max(own) if padded else sum(own)) <= budget
