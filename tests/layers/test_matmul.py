"""Products equal torch's, whichever library computes them."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from recbole_llm.layers import matmul
from recbole_llm.layers.matmul import TILE, add_outer_, apply_linear, linear, product, scores

ROWS = [1, TILE - 1, TILE, 5 * TILE, 0]
TILED = (TILE, 5 * TILE)  # row counts that oneDNN computes


@pytest.fixture(params=[True, False], ids=["oneDNN", "without oneDNN"], autouse=True)
def pays(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> bool:
    """Whether oneDNN is assumed to pay, whatever the processor is."""
    if request.param and not matmul.onednn_works():
        pytest.skip("this torch has no oneDNN product")
    monkeypatch.setattr(matmul, "onednn_pays", lambda: request.param)
    return bool(request.param)


@pytest.fixture
def products(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The numbers of rows of the left factors that oneDNN gets."""
    rows: list[int] = []
    onednn = matmul._onednn

    def seen(x: torch.Tensor, w: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor:
        rows.append(len(x))
        return onednn(x, w, bias)

    monkeypatch.setattr(matmul, "_onednn", seen)
    return rows


@pytest.mark.parametrize("rows", ROWS)
def test_product(rows: int, pays: bool, products: list[int]) -> None:
    x, w = torch.randn(rows, 20), torch.randn(33, 20)
    torch.testing.assert_close(product(x, w), x @ w.t())
    y = torch.randn(rows, 33)
    torch.testing.assert_close(product(y, w.t()), y @ w)
    assert products == ([rows, rows] if pays and rows in TILED else [])


@pytest.mark.parametrize("rows", ROWS)
@pytest.mark.parametrize("width", [7, 90])
def test_add_outer(rows: int, width: int, pays: bool, products: list[int]) -> None:
    x, y, total = torch.randn(rows, 33), torch.randn(rows, width), torch.randn(33, width)
    expected = total + x.t() @ y
    assert add_outer_(total, x, y) is total
    torch.testing.assert_close(total, expected, rtol=1e-4, atol=1e-4)
    assert products == ([min(33, width)] if pays and rows in TILED else [])  # narrower factor first


@pytest.mark.parametrize("rows", ROWS)
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("outputs", [7, 90])
def test_linear(rows: int, bias: bool, outputs: int, pays: bool, products: list[int]) -> None:
    inputs = [torch.randn(rows, 20), torch.randn(outputs, 20)]
    inputs += [torch.randn(outputs)] if bias else []
    ours = linear(*(x.requires_grad_() for x in inputs))
    theirs = F.linear(*inputs)
    torch.testing.assert_close(ours, theirs)
    direction = torch.randn_like(theirs)
    for a, b in zip(
        torch.autograd.grad(ours, inputs, direction),
        torch.autograd.grad(theirs, inputs, direction),
        strict=True,
    ):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-4)
    taken = [rows, rows, min(20, outputs)]  # forward, and the gradients of x and weight
    assert products == (taken if pays and rows in TILED else [])


def test_double_precision_and_autocast_are_torchs(products: list[int]) -> None:
    x, w = torch.randn(TILE, 8), torch.randn(4, 8)
    assert linear(x.double(), w.double()).dtype == torch.double
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert linear(x, w).dtype == torch.bfloat16
    assert products == []


@pytest.mark.parametrize("rows", [1, TILE - 1, TILE, TILE + 1, 3 * TILE + 5])
def test_scores(rows: int, pays: bool, products: list[int]) -> None:
    states, items = torch.randn(rows, 20), torch.randn(33, 20)
    ours = scores(states, items)
    torch.testing.assert_close(ours, states @ items.t())
    assert ours.is_contiguous()
    rounded = -(-rows // TILE) * TILE
    assert products == ([rounded] if pays and rows >= TILE else [])


@pytest.mark.parametrize("bias", [True, False])
def test_layers_side_by_side(bias: bool) -> None:
    x, layers = torch.randn(TILE, 20), [nn.Linear(20, width, bias) for width in (3, 8)]
    expected = torch.cat([layer(x) for layer in layers], dim=1)
    torch.testing.assert_close(apply_linear(x, *layers), expected)
    torch.testing.assert_close(apply_linear(x, layers[1]), expected[:, 3:])
    seen: list[nn.Module] = []
    for layer in layers:
        layer.register_forward_hook(lambda module, *_: seen.append(module))
    torch.testing.assert_close(apply_linear(x, *layers), expected)
    assert seen == layers


def test_scores_of_another_device_are_not_padded(monkeypatch: pytest.MonkeyPatch) -> None:
    def pad(*_: object) -> None:
        raise AssertionError("padded")

    monkeypatch.setattr(matmul, "onednn_pays", lambda: True)
    monkeypatch.setattr(matmul.F, "pad", pad)
    states, items = torch.ones(matmul.TILE + 1, 4), torch.ones(5, 4)
    with pytest.raises(AssertionError, match="padded"):
        matmul.scores(states, items)
    found = matmul.scores(states.to("meta"), items.to("meta"))
    assert found.shape == (matmul.TILE + 1, 5)
