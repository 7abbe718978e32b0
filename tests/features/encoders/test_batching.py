from __future__ import annotations

from typing import Any

import torch
from hypothesis import given
from hypothesis import strategies as st

from recbole_llm.features.encoders.batching import join_messages, message_batches, token_batches


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


def message(length: int, **tensors: Any) -> dict[str, Any]:
    ids = torch.arange(1, length + 1)[None]
    return {"input_ids": ids, "attention_mask": torch.ones_like(ids), **tensors}


def test_messages_are_joined_that_fit_each_other_and_the_budget() -> None:
    tile, tiles = torch.ones(1, 1, 3, 2, 2), torch.ones(1, 4, 3, 2, 2)
    messages = [
        *[message(n) for n in (3, 4, 2, 9, 1)],
        *[message(n, pixels=tile) for n in (2, 3)],
        message(3, pixels=tiles),
        *[message(2, pixels=[tile]) for _ in range(2)],  # a list is not a tensor
    ]
    batches = list(message_batches(messages, budget=8))
    assert [len(batch) for batch in batches] == [2, 1, 1, 1, 2, 1, 1, 1]
    assert list(map(id, sum(batches, []))) == list(map(id, messages))


def test_joined_messages_by_hand() -> None:
    seen = torch.tensor([[[1, 2], [3, 4]]])  # two values per token
    short = message(2, seen=seen, patches=torch.full((3, 2), 5.0))
    long = message(3, seen=torch.ones(1, 3, 2, dtype=torch.long), patches=torch.full((4, 2), 6.0))
    both = join_messages([short, long])
    assert both["input_ids"].tolist() == [[1, 2, 0], [1, 2, 3]]
    assert both["attention_mask"].tolist() == [[1, 1, 0], [1, 1, 1]]
    assert both["seen"].tolist() == [[[1, 2], [3, 4], [0, 0]], [[1, 1]] * 3]
    assert both["patches"][:, 0].tolist() == [5] * 3 + [6] * 4
    assert join_messages([short]) is short
