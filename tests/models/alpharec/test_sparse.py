"""Sparse products, pair scores, graph and map compared with the plain formulas."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from recbole_llm.models.alpharec.graph import InteractionGraph
from recbole_llm.models.alpharec.sparse import pair_scores
from recbole_llm.models.alpharec.text_map import LinearMap, MLPMap, TextLinear


@pytest.fixture(autouse=True)
def _double():
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


def _graph(seed: int, n_users: int = 7, n_items: int = 9, m: int = 20, n_layers: int = 2):
    rng = np.random.default_rng(seed)
    users, items = rng.integers(1, n_users - 1, m), rng.integers(1, n_items - 1, m)
    return InteractionGraph(users, items, n_users, n_items, n_layers), users, items


def test_hand_computed_graph() -> None:
    """User 1 has items 1, 2 (twice); user 2 has item 2; user 3 and item 3 have no edge."""
    graph = InteractionGraph(np.array([1, 1, 1, 2]), np.array([1, 2, 2, 2]), 4, 4, 1)
    text = torch.tensor([[0.0], [2.0], [6.0], [100.0]])
    assert graph.user_means(text)[:, 0].tolist() == [0.0, 4.0, 6.0, 0.0]
    nodes = torch.tensor([0.0, 1.0, 2.0, 3.0, 0.0, 10.0, 20.0, 30.0]).unsqueeze(1)
    half, root = 0.5, 0.5**0.5  # d_u1 = 2, d_i2 = 2, the others 1
    stepped = [0, 10 * root + 20 * half, 20 * root, 0, 0, root, half + 2 * root, 0]
    torch.testing.assert_close(graph.step(nodes)[:, 0], torch.tensor(stepped))
    torch.testing.assert_close(
        graph.convolve(nodes)[:, 0], (torch.tensor(stepped) + nodes[:, 0]) / 2
    )


def test_an_edge_between_many_and_many_is_finite() -> None:
    """The product of its degrees, 2.5e9, exceeds 32 bits, as can happen in MovieLens-25M."""
    count = 50_000
    ones, every = np.ones(count - 1, np.int64), np.arange(1, count)
    users, items = np.concatenate([ones, every]), np.concatenate([every, ones])
    graph = InteractionGraph(users, items, count, count, 0)
    assert graph.edge_by_user[0].item() == pytest.approx(1 / (count - 1))
    assert graph.edge_by_item[0].item() == pytest.approx(1 / (count - 1))


@settings(max_examples=20)
@given(st.integers(0, 10_000), st.integers(0, 3))
def test_convolution_is_the_mean_of_powers(seed: int, n_layers: int) -> None:
    graph, users, items = _graph(seed, n_layers=n_layers)
    size = graph.n_users + graph.n_items
    adjacency = np.zeros((size, size))
    adjacency[users, graph.n_users + items] = 1
    adjacency += adjacency.T
    degrees = adjacency.sum(1)
    scale = np.where(degrees > 0, degrees, np.inf) ** -0.5
    normal = scale[:, None] * adjacency * scale
    mean = sum(np.linalg.matrix_power(normal, k) for k in range(n_layers + 1)) / (n_layers + 1)
    ours = graph.convolve(torch.eye(size))
    np.testing.assert_allclose(ours.numpy(), mean, atol=1e-12)


def test_gradients_of_products() -> None:
    graph, _, _ = _graph(3)
    x = torch.randn(graph.n_items, 3, requires_grad=True)
    assert torch.autograd.gradcheck(graph.user_means, (x,))
    nodes = torch.randn(graph.n_users + graph.n_items, 3, requires_grad=True)
    assert torch.autograd.gradcheck(graph.convolve, (nodes,))


@settings(max_examples=20)
@given(st.integers(1, 6), st.integers(1, 5), st.integers(1, 8), st.integers(0, 10_000))
def test_pair_scores(batch: int, k: int, n: int, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    users = torch.randn(batch, 3, generator=generator, requires_grad=True)
    items = torch.randn(n, 3, generator=generator, requires_grad=True)
    ids = torch.randint(n, (batch, k), generator=generator)
    expected = torch.einsum("bd,bkd->bk", users, items[ids])
    torch.testing.assert_close(pair_scores(users, items, ids), expected)
    assert torch.autograd.gradcheck(lambda u, i: pair_scores(u, i, ids), (users, items))


def test_pair_scores_of_half_precision_are_not_rounded_to_it() -> None:
    users, items = torch.randn(3, 8).bfloat16(), torch.randn(5, 8).bfloat16()
    ids = torch.tensor([[1, 2], [0, 4], [3, 3]])
    expected = torch.einsum("bd,bkd->bk", users.float(), items.float()[ids])
    torch.testing.assert_close(pair_scores(users, items, ids), expected)


def test_pair_scores_with_many_items() -> None:
    """The number of items exceeds 16 bits, which needs the other sort."""
    items = torch.randn(70_000, 2, requires_grad=True)
    ids = torch.tensor([[69_999, 3], [3, 65_537]])
    users = torch.tensor([[1.0, 2.0], [3.0, 4.0]])
    pair_scores(users, items, ids).sum().backward()
    assert items.grad[3].tolist() == [4.0, 6.0]
    assert items.grad[69_999].tolist() == [1.0, 2.0]
    assert items.grad[65_537].tolist() == [3.0, 4.0]
    assert items.grad.abs().sum() == 20.0


TEXT = np.random.default_rng(0).normal(size=(30, 6))


@pytest.mark.parametrize("make", [
    lambda: MLPMap(TEXT, 5, 3, 0.0),  # convolves after W2
    lambda: MLPMap(TEXT, 2, 4, 0.0),  # convolves before W2
    lambda: LinearMap(TEXT, 3, 0.0, bias=False),
    lambda: MLPMap(TEXT, 5, 3, 0.7),
    lambda: LinearMap(TEXT, 3, 0.7, bias=False),
])  # fmt: skip
def test_map_on_graph_is_the_plain_order(make) -> None:
    graph, _, _ = _graph(5)
    text = torch.randn(graph.n_items, 6)
    text[0] = 0
    text_map = make()
    plain = torch.cat([text_map(graph.user_means(text)), text_map(text)])
    expected = graph.convolve(plain)
    ours = text_map.on_graph(text, graph)
    torch.testing.assert_close(ours, expected)
    weights = torch.randn_like(ours)
    parameters = list(text_map.parameters())
    for a, b in zip(
        torch.autograd.grad((ours * weights).sum(), parameters),
        torch.autograd.grad((expected * weights).sum(), parameters),
        strict=True,
    ):
        torch.testing.assert_close(a, b)


def test_whitening() -> None:
    """Power 1 centers and equalizes all directions; whitening is folded into the map."""
    rows = np.random.default_rng(0).normal(size=(200, 4)) @ np.diag([5.0, 2, 1, 0.2]) + 3.0
    for power, expected in ((1.0, np.ones(4)), (0.5, np.sqrt([5.0, 2, 1, 0.2]))):
        layer = TextLinear(rows, 3, power)
        white = (torch.from_numpy(rows) - layer.center) @ layer.matrix
        assert white.mean(0).abs().max() < 1e-12
        assert float(white.square().mean().sqrt()) == pytest.approx(0.5)
        deviations = torch.linalg.svdvals(white).numpy() / np.sqrt(200)
        np.testing.assert_allclose(deviations / deviations[0], expected / expected[0], rtol=0.2)
        plain = torch.nn.functional.linear(white, layer.weight, layer.bias)
        torch.testing.assert_close(layer(torch.from_numpy(rows)), plain)


def test_half_precision_does_not_round_off_what_whitening_makes_large() -> None:
    """Vectors of texts differ little. Rounding them before whitening would cause an error of about
    a tenth of their differences."""
    torch.manual_seed(0)
    rows = np.random.default_rng(0).normal(size=(200, 8)) + 5.0
    text = torch.from_numpy(rows).float()
    layer = TextLinear(text.numpy(), 16, 0.75).float()
    exact = layer(text)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        error = (layer(text) - exact).pow(2).mean().sqrt() / exact.std(0).mean()
    assert error < 0.01


@pytest.mark.parametrize("bias", [True, False])
def test_items_without_text_have_no_say_in_the_whitening(bias: bool) -> None:
    vectors = np.random.default_rng(0).normal(size=(30, 6)).astype(np.float32) + 3
    with_gaps = np.concatenate([np.zeros((31, 6), np.float32), vectors])
    ours, alone = (TextLinear(m, 3, 0.7, bias) for m in (with_gaps, with_gaps[30:]))
    torch.testing.assert_close(ours.matrix, alone.matrix)
    torch.testing.assert_close(ours.center, alone.center)


def test_whitening_of_fewer_items_than_dimensions_is_finite() -> None:
    layer = TextLinear(np.random.default_rng(0).normal(size=(3, 8)), 2, 1.0)
    assert torch.isfinite(layer.matrix).all()
    with pytest.raises(ValueError, match="all item vectors are the same"):
        TextLinear(np.ones((3, 8)), 2, 1.0)


def test_a_map_without_bias_maps_zeros_to_zeros() -> None:
    """It does not center the vectors, because it has no bias that could make up for that."""
    text_map = LinearMap((TEXT + 5).astype(np.float32), 3, 0.75, bias=False).float()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert not text_map(torch.zeros(1, 6, dtype=torch.float32)).any()
