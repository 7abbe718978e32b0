"""Models score the catalogue through `layers/matmul.py`."""

from __future__ import annotations

import pytest
import torch
from recbole.utils import get_model as recbole_model
from torch import Tensor

from recbole_llm.layers import matmul
from recbole_llm.testing import ModelTests


@pytest.fixture
def products(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, int]]:
    """Return the shapes of oneDNN's products, as on a processor where oneDNN is faster."""
    shapes: list[tuple[int, int]] = []

    def product(x: Tensor, w: Tensor, bias: Tensor | None) -> Tensor:
        shapes.append((len(x), len(w)))
        return torch.nn.functional.linear(x, w, bias)

    monkeypatch.setattr(matmul, "onednn_pays", lambda: True)
    monkeypatch.setattr(matmul, "_onednn", product)
    return shapes


@pytest.mark.parametrize("name", ["PAD", "LLMESR", "AlphaRec", "SASRec", "GRU4Rec", "LightGCN"])
@torch.no_grad()
def test_full_ranking(name: str, products: list[tuple[int, int]]) -> None:
    battery = ModelTests()
    battery.model = name
    _, model, (_, _, test) = battery.make()
    rows = next(iter(test))[0]
    rows = rows[torch.arange(70) % len(rows)]
    scores = model.full_sort_predict(rows).view(70, -1)
    assert (128, scores.shape[1]) in products  # 70 rows, padded to whole tiles
    assert scores.shape[1] == model.n_items
    if name == "AlphaRec":
        products.clear()
        model.score_users([torch.tensor([1, 2])] * 70)
        assert (128, model.n_items) in products


def test_lightgcn_scores_as_stock() -> None:
    battery = ModelTests()
    battery.model = "LightGCN"
    config, model, (train, _, test) = battery.make()
    stock = recbole_model("LightGCN")(config, train.dataset).eval()
    stock.load_state_dict(model.state_dict())
    rows = next(iter(test))[0]
    assert isinstance(model, type(stock))
    torch.testing.assert_close(
        model.full_sort_predict(rows).flatten(), stock.full_sort_predict(rows)
    )
    model.train().calculate_loss(next(iter(train)))  # drops what evaluation cached
    model.user_embedding.weight.data.zero_()
    assert not model.eval().full_sort_predict(rows).equal(stock.full_sort_predict(rows))


def test_lightgcn_propagates_in_float32_under_autocast() -> None:
    """Sparse products lack bfloat16, so the gradients of RecBole's model fail there."""
    battery = ModelTests()
    battery.model = "LightGCN"
    _, model, (train, _, _) = battery.make()
    losses, gradients = [], []
    for low in (False, True):
        with torch.autocast("cpu", torch.bfloat16, enabled=low):
            losses.append(model.train().calculate_loss(next(iter(train))))
        gradients.append(torch.autograd.grad(losses[-1], model.item_embedding.weight)[0])
    torch.testing.assert_close(losses[1].float(), losses[0], rtol=0.02, atol=0.01)
    torch.testing.assert_close(gradients[1], gradients[0], rtol=0, atol=1e-3)
