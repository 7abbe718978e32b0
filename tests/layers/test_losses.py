"""Losses: hand-computed values, and the chunked cross entropy against the plain one."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
import torch.nn.functional as F

from recbole_llm.layers import losses, matmul
from recbole_llm.layers.losses import bce, bpr, cross_entropy, sampled_softmax


def softplus(x: float) -> float:
    return math.log1p(math.exp(x))


def test_bce_by_hand() -> None:
    loss = bce(torch.tensor([1.0, -2.0]), torch.tensor([[0.5], [3.0]]))
    expected = (softplus(-1) + softplus(2)) / 2 + (softplus(0.5) + softplus(3)) / 2
    assert loss.item() == pytest.approx(expected, rel=1e-6)


def test_bpr_by_hand() -> None:
    loss = bpr(torch.tensor([1.0, -2.0]), torch.tensor([[0.0, 2.0], [1.0, -2.0]]))
    expected = (softplus(-1) + softplus(1) + softplus(3) + softplus(0)) / 4
    assert loss.item() == pytest.approx(expected, rel=1e-6)


def test_sampled_softmax_by_hand() -> None:
    loss = sampled_softmax(torch.tensor([1.0]), torch.tensor([[0.0, 2.0]]))
    expected = math.log(math.exp(1) + 1 + math.exp(2)) - 1
    assert loss.item() == pytest.approx(expected, rel=1e-6)


def problem(rows: int, items: int, scale: float = 1.0) -> tuple[torch.Tensor, ...]:
    generator = torch.Generator().manual_seed(rows + items)
    states = torch.randn(rows, 6, dtype=torch.double, generator=generator) * scale
    table = torch.randn(items, 6, dtype=torch.double, generator=generator)
    targets = torch.randint(1, items, (rows,), generator=generator)
    return states.requires_grad_(), table.requires_grad_(), targets


# Logits held at once, and the unit of rows. Chunks are then everything; some rows of all items;
# some items of all rows; some items of some rows.
BUDGETS = [(10**6, 64), (350, 4), (200, 64), (7, 64)]


@pytest.fixture(params=BUDGETS, ids=str)
def budget(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> tuple[int, int]:
    monkeypatch.setattr(losses, "LOGIT_BUDGET", request.param[0])
    monkeypatch.setattr(losses, "TILE", request.param[1])
    return request.param


@pytest.mark.parametrize("padding_item", [False, True])
@pytest.mark.parametrize("scale", [1.0, 300.0])
@pytest.mark.usefixtures("budget")
def test_cross_entropy_is_the_plain_one(padding_item: bool, scale: float) -> None:
    states, table, targets = problem(23, 40, scale)
    first = 0 if padding_item else 1
    plain = F.cross_entropy(states @ table[first:].t(), targets - first)
    ours = cross_entropy(states, table, targets, padding_item=padding_item)
    torch.testing.assert_close(ours, plain)
    for a, b in zip(
        torch.autograd.grad(3 * ours, (states, table)),
        torch.autograd.grad(3 * plain, (states, table)),
        strict=True,
    ):
        torch.testing.assert_close(a, b)


@pytest.mark.usefixtures("budget")
def test_cross_entropy_gradcheck() -> None:
    states, table, targets = problem(5, 9)
    assert torch.autograd.gradcheck(lambda s, t: cross_entropy(s, t, targets), (states, table))


def test_cross_entropy_in_float32_and_extreme_logits() -> None:
    states = torch.tensor([[100.0], [-100.0]], requires_grad=True)
    table = torch.tensor([[0.0], [2.0], [-2.0]], requires_grad=True)
    loss = cross_entropy(states, table, torch.tensor([1, 1]))
    assert loss.item() == pytest.approx(200.0)
    loss.backward()
    assert states.grad is not None and table.grad is not None
    # Row 1 puts all its mass on item 2: d loss / d state = (table[2] - table[1]) / 2.
    assert states.grad.tolist() == [[0.0], [-2.0]]
    assert table.grad.tolist() == [[0.0], [50.0], [-50.0]]


@pytest.mark.parametrize("rows", [1, 64, 150, 700])
@pytest.mark.parametrize("onednn", [True, False])
def test_cross_entropy_in_float32_is_that_of_float64(
    rows: int, onednn: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Row counts on both sides of a tile, so that either matrix library computes a part."""
    monkeypatch.setattr(matmul, "onednn_pays", lambda: onednn and matmul.onednn_works())
    double = problem(rows, 700)
    single = [x.detach().float().requires_grad_() for x in double[:2]]
    exact, ours = cross_entropy(*double), cross_entropy(*single, double[2])
    torch.testing.assert_close(ours, exact.float(), rtol=1e-6, atol=1e-6)
    for a, b in zip(
        torch.autograd.grad(ours, single), torch.autograd.grad(exact, double[:2]), strict=True
    ):
        torch.testing.assert_close(a, b.float(), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_cross_entropy_of_half_precision_tables(dtype: torch.dtype) -> None:
    """The sum over 70,000 equal items is beyond float16's range, so float16 must not hold it."""
    table = torch.zeros(70_001, 4, dtype=dtype, requires_grad=True)
    states = torch.ones(3, 4, requires_grad=True)
    loss = losses.cross_entropy(states, table, torch.tensor([1, 2, 3]))
    assert loss.item() == pytest.approx(math.log(70_000), rel=1e-5)
    loss.backward()
    assert table.grad is not None and table.grad.dtype == dtype
    assert table.grad[4].tolist() == pytest.approx([1 / 70_000] * 4, rel=1e-2)


@pytest.mark.skipif(not hasattr(torch.backends.mkldnn, "matmul"), reason="torch before 2.9")
def test_products_may_round_their_factors_under_autocast_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    backend: Any = torch.backends.mkldnn.matmul
    asked: list[str] = []

    def product(x: torch.Tensor, w: torch.Tensor) -> torch.Tensor:
        asked.append(backend.fp32_precision)
        return x @ w.t()

    monkeypatch.setattr(losses, "product", product)
    before = backend.fp32_precision
    states, table, targets = torch.randn(9, 8), torch.randn(20, 8), torch.randint(1, 20, (9,))
    exact = cross_entropy(states, table, targets)
    assert set(asked) == {before} != {"bf16"}
    asked.clear()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        rounded = cross_entropy(states, table, targets)
    assert set(asked) == {"bf16"}
    assert backend.fp32_precision == before
    assert rounded.dtype == torch.float32
    assert torch.isclose(rounded, exact, rtol=1e-2)


def test_padding_row_gets_no_gradient() -> None:
    states, table, targets = problem(7, 12)
    cross_entropy(states, table, targets).backward()
    assert table.grad is not None
    assert table.grad[0].abs().max() == 0


def test_only_what_needs_a_gradient_gets_one() -> None:
    states, table, targets = problem(7, 12)
    (by_states,) = torch.autograd.grad(cross_entropy(states, table.detach(), targets), states)
    (by_table,) = torch.autograd.grad(cross_entropy(states.detach(), table, targets), table)
    both = torch.autograd.grad(cross_entropy(states, table, targets), (states, table))
    torch.testing.assert_close((by_states, by_table), both)
    with torch.no_grad():
        assert not cross_entropy(states, table, targets).requires_grad


def test_no_rows_give_zero() -> None:
    states, table, targets = problem(0, 12)
    loss = cross_entropy(states, table, targets)
    loss.backward()
    assert loss.item() == 0
    assert table.grad is not None and table.grad.abs().max() == 0


def test_the_logits_never_exist_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(losses, "LOGIT_BUDGET", 1000)
    states, table, targets = problem(500, 300)  # 150,000 logits
    with torch.profiler.profile(profile_memory=True) as profile:
        cross_entropy(states, table, targets).backward()
    largest = max(event.self_cpu_memory_usage for event in profile.events())
    assert 8 * 300 <= largest < 8 * 150_000 / 4  # at least a row of logits was seen


def test_info_nce_by_hand() -> None:
    """The third row has the first row's owner, so neither is a negative of the other."""
    one = torch.tensor([[1.0, 0.0], [0.0, 2.0], [3.0, 0.0]])
    other = torch.tensor([[2.0, 0.0], [1.0, 1.0], [0.0, 1.0]])
    half = 2**-0.5
    cosines = torch.tensor([[1, half, 0], [0, half, 1], [1, half, 0]]) / 0.5
    rows = [(0, [0, 1]), (1, [0, 1, 2]), (2, [1, 2])]
    forward = sum(cosines[i, k].logsumexp(0) - cosines[i, i] for i, k in rows) / 3
    backward = sum(cosines[k, i].logsumexp(0) - cosines[i, i] for i, k in rows) / 3
    loss = losses.info_nce(one, other, 0.5, torch.tensor([7, 8, 7]))
    torch.testing.assert_close(loss, (forward + backward) / 2)


def test_info_nce_keeps_its_precision_under_autocast() -> None:
    one, other = torch.randn(2, 5, 16)
    with torch.autocast("cpu", torch.bfloat16):
        mixed = losses.info_nce(one, other, 0.1)
    assert mixed.equal(losses.info_nce(one, other, 0.1))
