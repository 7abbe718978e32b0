"""MK-MMD compared with the authors' numbers, its properties, and its undefined cases."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from recbole_llm.models.pad import mmd
from recbole_llm.models.pad.mmd import BANDWIDTHS, MEASURES, TEMPERATURE, alignment_loss, mk_mmd

KERNELS = ("gaussian", "laplace", "linear", "cosine")


def normal(seed: int, m: int = 6, width: int = 4, shift: float = 0.0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(m, width, generator=generator, dtype=torch.float64) + shift


def single(width: float, x: Tensor, y: Tensor, kernel: str = "gaussian") -> Tensor:
    """Return the MMD with one bandwidth."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(mmd, "BANDWIDTHS", (width,))
        return mk_mmd(x, y, kernel)


def with_gradients(x: np.ndarray, y: np.ndarray) -> tuple[Tensor, ...]:
    a, b = (torch.tensor(side, dtype=torch.float64, requires_grad=True) for side in (x, y))
    loss = mk_mmd(a, b)
    loss.backward()
    assert a.grad is not None and b.grad is not None
    return loss.detach(), a.grad, b.grad


def test_equals_the_authors_loss_and_gradients(golden: Any) -> None:
    arrays, _ = golden("mkmmd")
    assert arrays["alphas"].tolist() == list(BANDWIDTHS)
    loss, grad_x, grad_y = with_gradients(arrays["x"], arrays["y"])
    np.testing.assert_allclose(loss, arrays["loss"], atol=1e-8)
    np.testing.assert_allclose(grad_x, arrays["grad_x"], atol=1e-8)
    np.testing.assert_allclose(grad_y, arrays["grad_y"], atol=1e-8)


def test_equals_the_authors_kernel_by_kernel(golden: Any) -> None:
    arrays, _ = golden("mkmmd")
    x, y = torch.tensor(arrays["x"]), torch.tensor(arrays["y"])
    ours = [single(a, x, y) - arrays["constant"] for a in arrays["alphas"]]
    np.testing.assert_allclose(ours, arrays["per_kernel"], atol=1e-8)


def test_equals_the_authors_on_one_set_in_two_orders(golden: Any) -> None:
    arrays, _ = golden("mkmmd")
    x = arrays["x"]
    loss, grad, _ = with_gradients(x, x[::-1].copy())
    np.testing.assert_allclose(loss, arrays["loss_same_set"], atol=1e-8)
    np.testing.assert_allclose(grad, arrays["grad_same_set"], atol=1e-8)


def test_bandwidths_double() -> None:
    assert all(wide == 2 * narrow for narrow, wide in pairwise(BANDWIDTHS))


def test_gaussian_by_hand() -> None:
    # Points 0, 1 against 0, 2: the 16 squared distances sum to 2(1 + 4 + 0 + 4 + 1 + 1) = 22.
    x, y = torch.tensor([[0.0], [1.0]]), torch.tensor([[0.0], [2.0]])
    k = [np.exp(-d / (2 * 22 / 16)) for d in (1, 4, 0, 4, 1, 1)]  # xx, yy, then xy
    expected = k[0] + k[1] - 2 * sum(k[2:]) / 4 + 2
    assert single(1.0, x, y).item() == pytest.approx(expected, abs=1e-6)


def test_linear_is_the_distance_of_the_means_without_bias() -> None:
    x, y = normal(0), normal(1, shift=1.0)
    within = [(s @ s.T).sum() - s.square().sum() for s in (x, y)]
    expected = sum(within) / 30 - 2 * x.mean(0) @ y.mean(0) + 2 / 5
    torch.testing.assert_close(mk_mmd(x, y, "linear"), expected)


def test_laplace_by_hand() -> None:
    x, y = torch.tensor([[0.0], [1.0]]), torch.tensor([[0.0], [2.0]])
    k = [np.exp(-d / (14 / 16)) for d in (1, 2, 0, 2, 1, 1)]  # mean distance 2(1+2+0+2+1+1)/16
    expected = k[0] + k[1] - 2 * sum(k[2:]) / 4 + 2
    assert single(1.0, x, y, "laplace").item() == pytest.approx(expected, abs=1e-6)


def test_infonce_by_hand() -> None:
    x, y = torch.eye(2), torch.tensor([[3.0, 0.0], [0.0, 2.0]])
    expected = np.log(1 + np.exp(-1 / TEMPERATURE))
    assert alignment_loss(x, y, "infonce").item() == pytest.approx(expected, abs=1e-6)


def test_only_characteristic_kernels_see_more_than_the_mean() -> None:
    x = torch.tensor([[1.0], [-1.0]]).repeat(50, 1)
    y = torch.tensor([[0.1], [-0.1]]).repeat(50, 1)
    for kernel in ("gaussian", "laplace"):
        assert mk_mmd(x, y, kernel) - mk_mmd(x, x, kernel) > 0.5
    assert abs(mk_mmd(x, y, "linear") - mk_mmd(x, x, "linear")) < 0.02


@pytest.mark.parametrize("kernel", KERNELS)
@settings(max_examples=25)
@given(seed=st.integers(0, 2**31), m=st.integers(2, 9), order=st.randoms())
def test_symmetric_and_blind_to_the_order_of_rows(
    kernel: str, seed: int, m: int, order: Any
) -> None:
    x, y = normal(seed, m), normal(seed + 1, m, shift=0.5)
    loss = mk_mmd(x, y, kernel)
    torch.testing.assert_close(mk_mmd(y, x, kernel), loss)
    rows = order.sample(range(m), m)
    torch.testing.assert_close(mk_mmd(x, y[rows], kernel), loss)


@pytest.mark.parametrize("measure", MEASURES)
def test_mixed_precision_changes_no_gradient(measure: str) -> None:
    x, y = normal(1, 40).float().requires_grad_(), normal(2, 40, shift=0.5).float()
    (exact,) = torch.autograd.grad(alignment_loss(x, y, measure), x)
    with torch.autocast("cpu", torch.bfloat16):
        loss = alignment_loss(x, y, measure)
    (mixed,) = torch.autograd.grad(loss, x)
    assert torch.equal(mixed, exact)


@settings(max_examples=25)
@given(seed=st.integers(0, 2**31), shift=st.floats(-100, 100))
def test_gaussian_does_not_depend_on_origin_or_unit(seed: int, shift: float) -> None:
    x, y = normal(seed), normal(seed + 1, shift=0.5)
    loss = mk_mmd(x, y)
    torch.testing.assert_close(mk_mmd(x + shift, y + shift), loss)
    torch.testing.assert_close(mk_mmd(7 * x, 7 * y), loss)


@settings(max_examples=25)
@given(seed=st.integers(0, 2**31))
def test_never_below_zero_for_one_kernel_and_near_its_constant_for_one_set(seed: int) -> None:
    x = normal(seed, 40)
    for width in (0.125, 2.0):
        assert single(width, x, x) >= 0
    assert abs(mk_mmd(normal(seed, 400), normal(seed + 1, 400)) - 2 / 399) < 0.1


@pytest.mark.parametrize("measure", MEASURES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("value", [0.0, 1.0, 1e4, 0.1])
def test_coinciding_rows_give_a_finite_loss_and_gradient(
    measure: str, dtype: torch.dtype, value: float
) -> None:
    x = torch.full((5, 3), value, dtype=dtype, requires_grad=True)
    loss = alignment_loss(x, x.detach().clone(), measure)
    loss.backward()
    assert torch.isfinite(loss)
    assert x.grad is not None and torch.isfinite(x.grad).all()
    if measure in ("gaussian", "laplace"):
        assert loss.item() == pytest.approx(2 / 4, abs=1e-4)  # the constant alone


@pytest.mark.parametrize("measure", MEASURES)
def test_duplicate_rows_give_a_finite_gradient(measure: str) -> None:
    x = torch.tensor([[1.0, 2.0], [1.0, 2.0], [0.0, 0.0]], requires_grad=True)
    alignment_loss(x, torch.tensor([[1.0, 2.0], [0.0, 0.0], [5.0, 1.0]]), measure).backward()
    assert x.grad is not None and torch.isfinite(x.grad).all()


@pytest.mark.parametrize("measure", MEASURES)
@pytest.mark.parametrize("m", [0, 1])
def test_fewer_than_two_rows_give_zero(measure: str, m: int) -> None:
    x = torch.ones(m, 3, requires_grad=True)
    loss = alignment_loss(x, torch.zeros(m, 3), measure)
    loss.backward()
    assert loss.item() == 0
    assert x.grad is None or not x.grad.any()


def test_gaussian_descent_brings_two_sets_together() -> None:
    x, y = normal(0, 50, 2), normal(1, 50, 2, shift=3.0).requires_grad_()
    before = torch.dist(x.mean(0), y.mean(0)).item()
    optimizer = torch.optim.Adam([y], lr=0.1)
    for _ in range(150):
        optimizer.zero_grad()
        mk_mmd(x, y).backward()
        optimizer.step()
    assert torch.dist(x.mean(0), y.mean(0)).item() < before / 3
    assert mk_mmd(x, y).item() < 0.1


@pytest.mark.parametrize("measure", ["gaussian", "laplace"])
@pytest.mark.parametrize("spread", [1e-2, 1e-4, 1e-5])
def test_vectors_that_are_close_for_their_length(measure: str, spread: float) -> None:
    """Loss and gradient are nearly the same in float32 and float64."""
    x = (1 + spread * normal(1, 50)).float()
    y = (1 + spread + 1.5 * spread * normal(2, 50)).float()
    found = []
    for dtype in (torch.float32, torch.float64):
        own = x.to(dtype).requires_grad_()
        loss = alignment_loss(own, y.to(dtype), measure)
        (gradient,) = torch.autograd.grad(loss, own)
        found.append((loss.double(), gradient.double()))
    torch.testing.assert_close(found[0], found[1], rtol=0.02, atol=0.02 * found[1][1].abs().max())
