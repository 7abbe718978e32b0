"""Golden parity with the loss of the Molar authors' code."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from recbole_llm.models.molar.layers import PooledNCE


def test_nce(golden: Callable[[str], Any]) -> None:
    numpy_arrays, _ = golden("molar_nce")
    arrays = {name: torch.from_numpy(np.asarray(a)) for name, a in numpy_arrays.items()}
    loss = PooledNCE(same_item=0.99).double()
    loss.log_scale.data = arrays["logit_scale_before"].clone()
    inputs = {n: arrays[n].clone().requires_grad_() for n in ("cur_embs", "target_pos")}
    pool = arrays["target_neg"].clone().requires_grad_()
    real = arrays["user_attention_mask"].bool()
    rows = inputs["cur_embs"][real], inputs["target_pos"][real], pool.flatten(0, 1)
    close(loss.logits(*rows), arrays["logits"])
    value = loss(*rows)
    value.backward()
    close(value, arrays["loss"])
    close(loss.log_scale, arrays["logit_scale_after"])
    close(loss.log_scale.grad, arrays["grad.logit_scale"])
    close(pool.grad, arrays["grad.target_neg"])
    for name, tensor in inputs.items():
        close(tensor.grad, arrays[f"grad.{name}"])


def close(actual: Tensor | None, expected: Tensor) -> None:
    assert actual is not None
    torch.testing.assert_close(actual.detach(), expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize(("start", "scale"), [(9.0, 100), (-1.0, 1)])
def test_the_scale_stays_between_1_and_100(start: float, scale: float) -> None:
    loss = PooledNCE()
    loss.log_scale.data.fill_(start)
    loss(*(torch.eye(3) for _ in range(3)))
    assert loss.log_scale.exp().item() == pytest.approx(scale)


def test_cosines_keep_their_precision_under_autocast() -> None:
    loss = PooledNCE()
    rows = [torch.randn(5, 16) for _ in range(3)]
    with torch.autocast("cpu", torch.bfloat16):
        mixed = loss.logits(*rows)
    assert mixed.equal(loss.logits(*rows))
