"""Negatives are never an item of the user, and draws of pairs and items are uniform."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from recbole.data.interaction import Interaction

from recbole_llm.models.alpharec.graph import InteractionGraph
from recbole_llm.models.alpharec.query import query_from_nearest_texts
from recbole_llm.testing import ModelTests


def _sampler(pairs: list[tuple[int, int]], n_users: int, n_items: int) -> InteractionGraph:
    users, items = (np.array(column) for column in zip(*pairs, strict=True))
    return InteractionGraph(users, items, n_users, n_items, 1)


@settings(max_examples=50)
@given(st.sets(st.tuples(st.integers(1, 4), st.integers(1, 9)), min_size=1, max_size=20))
def test_negatives_cover_exactly_the_other_items(pairs: set[tuple[int, int]]) -> None:
    n_items = 12  # two more than a user can have
    sampler = _sampler(sorted(pairs), 6, n_items)
    draws = sampler.negatives(torch.arange(6), 400)
    for user in range(6):
        own = {item for u, item in pairs if u == user}
        assert set(draws[user].tolist()) == set(range(1, n_items)) - own


def test_negatives_are_uniform() -> None:
    torch.manual_seed(0)
    sampler = _sampler([(1, 1), (1, 4), (1, 5), (2, 9)], 3, 10)
    counts = torch.bincount(sampler.negatives(torch.tensor([1]), 60_000)[0], minlength=10)
    free = counts[[2, 3, 6, 7, 8, 9]].double()
    assert int(counts.sum()) == int(free.sum())
    chi2 = ((free - 10_000) ** 2 / 10_000).sum()
    assert chi2 < 20.5  # 0.1 % point of chi-square with 5 degrees of freedom


def test_pairs_draw_users_uniformly_whatever_their_history() -> None:
    torch.manual_seed(0)
    pairs = [(1, 1)] + [(2, i) for i in range(1, 9)]
    sampler = _sampler(pairs, 4, 10)
    users, items = sampler.draw(20_000)
    assert {(int(u), int(i)) for u, i in zip(users, items, strict=True)} == set(pairs)
    assert abs(float((users == 1).double().mean()) - 0.5) < 0.02
    of_two = torch.bincount(items[users == 2], minlength=10)[1:9].double()
    assert float((of_two / of_two.sum() - 1 / 8).abs().max()) < 0.02


def test_has_tells_which_user_has_which_item() -> None:
    sampler = _sampler([(1, 1), (1, 2), (2, 2), (2, 5)], 4, 8)
    users, items = torch.tensor([1, 2, 1, 3]), torch.tensor([1, 2, 2, 7])
    expected = [
        [True, True, True, False],
        [False, True, True, False],
        [True, True, True, False],
        [False, False, False, False],
    ]
    assert sampler.has(users, items).tolist() == expected


def test_a_user_with_every_item_is_an_error() -> None:
    sampler = _sampler([(1, 1), (1, 2), (1, 3)], 3, 4)  # no error before negatives are drawn
    with pytest.raises(ValueError, match="every item .* data of 1 user, .*user_inter_num_interval"):
        sampler.negatives(torch.tensor([2]), 1)


class _Made(ModelTests):
    """Provides `make` and runs no tests."""

    __test__ = False
    model = "AlphaRec"
    config = {"embedding_size": 8, "n_neg": 4, "text_whitening": 0.0}


def test_pairs_by_user_are_drawn_and_not_the_batchs() -> None:
    _, model, loaders = _Made().make(sample_by="user")
    batch = next(iter(loaders[0]))
    batch.update(Interaction({"user_id": torch.ones_like(batch["user_id"])}))
    users, items, _ = model.training_pairs(batch)
    assert len(users) == len(batch) and len(users.unique()) > 10
    assert model.graph.has(users, items).diagonal().all()


@torch.no_grad()
def test_an_item_that_a_history_repeats_counts_once() -> None:
    _, model, _ = _Made().make()
    once, twice = model.score_users([torch.tensor([3, 5]), torch.tensor([3, 5, 3])])
    torch.testing.assert_close(twice, once)
    exported = model.history_vector(torch.tensor([[3, 5]])) @ model.ranked_vectors().T
    torch.testing.assert_close(exported[0], once)


def test_the_padding_is_no_text_near_to_a_query() -> None:
    """The padding's cosine of 0 is above those of the items, -0.71 and -0.89."""
    texts = torch.tensor([[0.0, 0.0], [-1.0, -1.0], [-1.0, 0.5]])
    assert query_from_nearest_texts(torch.tensor([1.0, 0.0]), texts, 1).tolist() == [-1.0, -1.0]
