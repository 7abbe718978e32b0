"""Codes of content vectors: which items share them, and how their vectors are learned."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from recbole_llm.models.molar.codes import ProductCodes


def two_parts() -> Tensor:
    """Return items of 2 kinds in the first two numbers, 3 in the last two; item 7 has none."""
    left, right = torch.tensor([[0.0, 9], [9, 0]]), torch.tensor([[0.0, 5], [5, 0], [-5, -5]])
    kinds = [(0, 0), (0, 1), (1, 1), (1, 2), (0, 2), (1, 0)]
    rows = [torch.cat([left[a], right[b]]) for a, b in kinds]
    return torch.stack([torch.zeros(4), *rows, torch.zeros(4)])


@pytest.fixture
def codes() -> ProductCodes:
    torch.manual_seed(0)
    made = ProductCodes(two_parts(), size=3, codes=2, dropout=0.5).eval()
    torch.nn.init.normal_(made.table.weight)
    return made


def test_items_that_are_alike_in_a_part_share_its_code(codes: ProductCodes) -> None:
    first, second = codes.codes[1:7].T.tolist()
    assert len(codes.centroids) == 6  # none for the zeros of padding and item 7
    assert [first[i] == first[0] for i in range(6)] == [True, True, False, False, True, False]
    assert [second[i] == second[1] for i in range(6)] == [False, True, True, False, False, False]
    assert second[0] == second[5] and second[3] == second[4] and second[0] != second[3]


def test_an_item_is_the_sum_of_its_codes_over_the_root_of_their_number(codes: ProductCodes) -> None:
    values = len(codes.centroids)
    first, second = codes.codes[2].long()
    due = (codes.table.weight[first] + codes.table.weight[values + second]) / 2**0.5
    made = codes(torch.tensor([[2, 0], [7, 2]]))  # padding and item 7 have no codes
    torch.testing.assert_close(made, torch.stack([due, 0 * due, 0 * due, due]).view(2, 2, 3))


def test_all_start_at_zero_and_learn_by_the_items_that_have_them() -> None:
    codes = ProductCodes(two_parts(), size=3, codes=2, dropout=0.0)
    made = codes(torch.arange(8))
    assert not made.any()
    made[1].sum().backward()
    assert codes.table.weight.grad is not None
    assert codes.table.weight.grad.any(1).sum() == 2


def test_training_leaves_codes_out_and_keeps_the_sum_in_expectation(codes: ProductCodes) -> None:
    whole = codes(torch.tensor([2]))
    made = codes.train()(torch.full((4000,), 2))
    assert len(made.unique(dim=0)) == 4  # both codes, either one or none
    torch.testing.assert_close(made.mean(0, keepdim=True), whole, atol=0.1, rtol=0)


def test_later_items_have_the_codes_of_like_content(codes: ProductCodes) -> None:
    content = two_parts()
    codes.append(torch.stack([content[3] + 0.1, content[0]]))
    made = codes(torch.arange(10))
    assert made[8].equal(made[3]) and not made[9].any()


def test_a_checkpoint_keeps_the_codes(codes: ProductCodes) -> None:
    """K-means may end differently on another machine, but an item's codes must stay."""
    other = ProductCodes(two_parts().roll(1, 1), size=3, codes=2, dropout=0.5).eval()
    other.load_state_dict(codes.state_dict())
    assert other(torch.arange(1, 7)).equal(codes(torch.arange(1, 7)))


def test_a_vector_has_no_more_codes_than_numbers() -> None:
    with pytest.raises(ValueError, match="item_codes: 5 are more than the 4 numbers"):
        ProductCodes(two_parts(), size=3, codes=5, dropout=0.0)


def test_molar_adds_them_to_its_items(make_molar: Any) -> None:
    plain, ids = make_molar().eval(), torch.arange(21)
    model = make_molar(item_codes=4).eval()
    items = model.towers["content"].items
    torch.testing.assert_close(model.item_vectors(), plain.item_vectors())
    torch.nn.init.normal_(items.codes.table.weight)
    torch.testing.assert_close(model.item_vectors(), plain.item_vectors() + items.codes(ids))


@pytest.mark.parametrize("whitening", [0.0, 1.0])
def test_molar_scores_later_items_by_their_codes(whitening: float, make_molar: Any) -> None:
    model = make_molar(item_codes=4, vector_whitening=whitening).eval()
    items = model.towers["content"].items
    torch.nn.init.normal_(items.codes.table.weight)
    before = model.item_vectors()
    encoded = np.random.default_rng(0).normal(size=(21, 16))  # the vectors of `make_molar`
    model.add_items(torch.from_numpy(encoded[1:]).float())
    torch.testing.assert_close(model.item_vectors()[21:], before[1:], atol=1e-5, rtol=1e-5)


def test_item_init_scales_the_id_model_alone(make_molar: Any) -> None:
    model, plain = make_molar(), make_molar()
    torch.nn.init.normal_(model.towers["id"].items.weight[1:], std=0.3)
    model.scale_first_scores(2.0)
    ids, items = model.towers["id"].backbone.output_norm(), model.towers["id"].items.weight
    assert (ids(items) @ items.t()).square().mean().sqrt().item() == pytest.approx(2, rel=1e-5)
    content, unscaled = (m.towers["content"].backbone.output_norm() for m in (model, plain))
    assert content.weight.equal(unscaled.weight)
    make_molar(fusion="no_alignment").scale_first_scores(2.0)


def test_first_scores_are_as_far_apart_as_asked(make_molar: Any) -> None:
    model = make_molar(score_std=2.0, item_std=0.3)
    items = model.towers["content"].items(torch.arange(21))
    states = model.towers["content"].backbone.output_norm()(items)
    assert (states @ items.t()).square().mean().sqrt().item() == pytest.approx(2, rel=1e-5)
