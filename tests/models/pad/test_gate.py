"""Frequency bins and gates."""

from __future__ import annotations

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from recbole_llm.models.pad.gate import FrequencyGate, frequency_bins


def test_bins_hold_near_equal_numbers_of_interactions() -> None:
    # The 13 interactions in thirds: item 2's 5 lie around 2.5, item 5's 4 around 7, item 4's 2
    # around 10, and so on.
    counts = np.array([0, 1, 5, 1, 2, 4, 0])
    assert frequency_bins(counts, 3).tolist() == [0, 3, 1, 3, 3, 2, 3]


def test_equally_popular_items_share_a_bin() -> None:
    assert frequency_bins(np.array([0, 2, 2, 2, 1]), 2).tolist() == [0, 1, 1, 1, 2]
    assert frequency_bins(np.array([0, 0, 0]), 4).tolist() == [0, 4, 4]


@settings(max_examples=50)
@given(st.lists(st.integers(0, 50), min_size=1, max_size=60), st.integers(1, 12))
def test_bins_follow_popularity(counts: list[int], n_bins: int) -> None:
    array = np.array([0, *counts])
    bins = frequency_bins(array, n_bins)
    assert bins[0] == 0
    assert ((1 <= bins[1:]) & (bins[1:] <= n_bins)).all()
    assert (np.diff(bins[1:][np.argsort(-array[1:], kind="stable")]) >= 0).all()
    total = array.sum()
    largest = max(array[array == count].sum() for count in counts)  # of items of equal counts
    for number in range(1, n_bins + 1):  # at either end, a bin is off by less than half of it
        assert array[bins == number].sum() <= total / n_bins + largest


def test_gates_by_hand() -> None:
    gate = FrequencyGate(np.array([0, 1, 2]), 2, gamma_2=-4.0)
    assert gate.alpha.tolist() == [[1.0, 0.5, 0.0], [-4.0, -4.5, -5.0], [0.0, 0.5, 1.0]]
    share = 1 / (1 + np.exp(-np.array([0.0, -5.0, 1.0])))
    expected = torch.tensor(share / share.sum(), dtype=torch.float32)
    torch.testing.assert_close(gate(torch.tensor([2])).squeeze(0), expected)
    torch.testing.assert_close(gate.weights().sum(0), torch.ones(3))


def test_only_the_bins_of_scored_items_get_gradients() -> None:
    gate = FrequencyGate(np.array([0, 1, 2, 2]), 2, gamma_2=1.0)
    gate(torch.tensor([[2, 3]]))[..., 0].sum().backward()
    assert gate.alpha.grad is not None
    assert gate.alpha.grad[:, 2].all() and not gate.alpha.grad[:, :2].any()


def test_the_most_popular_items_are_in_the_first_bin_however_popular() -> None:
    """No bin before the last used one is empty."""
    one_hit = np.array([0, 300, *[10] * 70])
    assert frequency_bins(one_hit, 10).tolist() == [0, 1, *[2] * 70]
    zipf = np.array([0, *(3000 / np.arange(1, 200) ** 1.2).astype(int)])
    bins = frequency_bins(zipf, 10)[1:]
    assert set(bins) == set(range(1, bins.max() + 1)) and bins[0] == 1
    unseen = np.array([0, 300, 10, 10, 0])
    assert frequency_bins(unseen, 10).tolist()[-1] == 10


def test_later_items_are_in_the_bin_of_items_without_training_interactions() -> None:
    for counts, bins in (([0, 3, 0, 1], [0, 1, 4, 2]), ([0, 3, 1], [0, 1, 2])):
        gate = FrequencyGate(frequency_bins(np.array(counts), 4), 4, gamma_2=1.0)
        assert gate.bins.tolist() == bins
        gate.append(2)
        assert gate.bins.tolist() == [*bins, 4, 4]


@torch.no_grad()
def test_a_reset_brings_back_weights_and_bins_of_the_present_data() -> None:
    gate, other = (FrequencyGate(np.array(bins), 2, gamma_2=1.0) for bins in ([0, 1, 2], [0, 2, 1]))
    initial = gate.weights()
    other.alpha.zero_()
    gate.load_state_dict(other.state_dict())  # as of a checkpoint with other counts
    gate.reset()
    assert gate.bins.tolist() == [0, 1, 2] and gate.weights().equal(initial)
