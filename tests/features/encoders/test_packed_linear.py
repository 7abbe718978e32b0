"""oneDNN's packed product is used only where it agrees with torch's."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from recbole_llm.features.encoders.packed.bert import linear


@pytest.mark.parametrize(
    ("dtype", "factor", "used"),
    [
        (torch.float32, 1.0005, True),
        (torch.float32, 1.01, False),
        (torch.bfloat16, 1.02, True),
        (torch.bfloat16, 1.2, False),
        (torch.float32, float("nan"), False),
    ],
)
def test_a_product_that_differs_is_not_used(
    monkeypatch: pytest.MonkeyPatch, dtype: torch.dtype, factor: float, used: bool
) -> None:
    calls: list[Tensor] = []

    def product(x: Tensor, weight: Tensor, bias: Tensor, *_: object) -> Tensor:
        calls.append(x)
        return factor * F.linear(x, weight, bias)

    fake = SimpleNamespace(
        _reorder_linear_weight=lambda weight, rows: weight, _linear_pointwise=product
    )
    monkeypatch.setattr(torch.ops, "mkldnn", fake)
    weight, bias = torch.full((3, 4), 2.0), torch.full((3,), 5.0)
    call = linear(weight, bias, dtype)
    assert len(calls) == 1  # the trial
    x = torch.ones(1, 4, dtype=dtype)
    torch.testing.assert_close(
        call(x, False).float(), torch.full((1, 3), 13.0 * factor if used else 13.0),
        rtol=5e-3, atol=0,
    )  # fmt: skip
    assert len(calls) == 1 + used
