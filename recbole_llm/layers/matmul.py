"""Matrix products through the faster of torch's two CPU libraries.

torch sends float32 products to MKL, which leaves AVX-512 unused on processors that are not
Intel's. oneDNN, which torch also ships, uses it and is twice as fast on AMD's Zen 4 and 5, at the
same precision. Everywhere else (other processors, dtypes, devices, autocast) these functions call
torch's own. oneDNN compiles a kernel for every new shape, so row counts that vary from batch to
batch should be rounded up to a multiple of `TILE`.
"""

from __future__ import annotations

import platform
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from recbole_llm.layers.exporting import is_exporting

TILE = 64


@cache
def onednn_pays() -> bool:
    """Whether float32 products are faster through oneDNN in this process."""
    avx512 = torch.backends.cpu.get_cpu_capability() == "AVX512"
    mkl: bool = torch.backends.mkl.is_available()  # type: ignore[no-untyped-call]
    return avx512 and _is_amd() and mkl and onednn_works()


@cache
def onednn_works() -> bool:
    """Whether this torch has the oneDNN product that `_onednn` calls, with right results."""
    try:  # an operator that torch.compile uses: present since torch 2.0, but not a public API
        generator = torch.Generator().manual_seed(0)  # not the global one, which training uses
        x, w = (torch.randn(rows, 16, generator=generator) for rows in (TILE, 8))
        return torch.allclose(_onednn(x, w, None), x @ w.t(), rtol=1e-4, atol=1e-4)
    except (AttributeError, RuntimeError):
        return False


def _is_amd() -> bool:
    try:
        return "AuthenticAMD" in Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        return "AuthenticAMD" in platform.processor()


def _onednn(x: Tensor, w: Tensor, bias: Tensor | None) -> Tensor:
    return torch.ops.mkldnn._linear_pointwise(x, w, bias, "none", [], "")


def _use_onednn(x: Tensor) -> bool:
    if is_exporting():
        return False
    return (
        x.dtype == torch.float32
        and x.device.type == "cpu"
        and x.dim() == 2
        and x.shape[0] % TILE == 0
        and x.shape[0] > 0
        and not torch.is_autocast_enabled("cpu")
        and onednn_pays()
    )


@contextmanager
def rounded_factors(enabled: bool) -> Iterator[None]:
    """Within the block, allow factors of float32 products on the CPU to be rounded to bfloat16, if
    the processor multiplies bfloat16 faster, as with AMX; sums and results stay float32."""
    backend = getattr(torch.backends.mkldnn, "matmul", None)  # since torch 2.9
    if not enabled or backend is None:
        yield
        return
    before, backend.fp32_precision = backend.fp32_precision, "bf16"
    try:
        yield
    finally:
        backend.fp32_precision = before


def product(x: Tensor, w: Tensor) -> Tensor:
    """x [m, k] @ w [n, k].T -> [m, n], without gradient; fastest when `x` is contiguous."""
    return _onednn(x, w, None) if _use_onednn(x) else x @ w.t()


def scores(states: Tensor, items: Tensor) -> Tensor:
    """states [B, D] @ items [n, D].T -> [B, n], without gradient, for any B."""
    spare = -states.shape[0] % TILE
    on_cpu = states.device.type == "cpu"
    if on_cpu and spare and states.shape[0] > TILE and onednn_pays():
        return product(F.pad(states, (0, 0, 0, spare)), items)[:-spare]
    return product(states, items)


def add_outer_(total: Tensor, x: Tensor, y: Tensor) -> Tensor:
    """total [n, k] += x [m, n].T @ y [m, k], without gradient; `y` is the narrower factor."""
    if not _use_onednn(x):
        return total.addmm_(x.t(), y)
    return total.add_(_outer(x, y))


def _outer(x: Tensor, y: Tensor) -> Tensor:
    """x [m, n].T @ y [m, k] -> [n, k]; the narrower factor is the left, contiguous one."""
    if y.shape[1] <= x.shape[1]:
        return _onednn(y.t().contiguous(), x.t(), None).t()
    return _onednn(x.t().contiguous(), y.t(), None)


def linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """x [m, k] @ weight [n, k].T + bias [n] -> [m, n], as torch.nn.functional.linear."""
    if not _use_onednn(x):
        return F.linear(x, weight, bias)
    return _Linear.apply(x, weight, bias)  # type: ignore[no-untyped-call]


def apply_linear(x: Tensor, *layers: nn.Linear) -> Tensor:
    """Outputs of linear layers side by side, in one product: x [m, k] -> [m, sum of outputs]."""
    if any(layer._forward_hooks or layer._forward_pre_hooks for layer in layers):
        # Hooks such as RecBole's count of FLOPs need the module call.
        return torch.cat([layer(x) for layer in layers], dim=1)
    if len(layers) == 1:
        return linear(x, layers[0].weight, layers[0].bias)
    weight = torch.cat([layer.weight for layer in layers])
    bias = None if layers[0].bias is None else torch.cat([layer.bias for layer in layers])
    return linear(x, weight, bias)


class _Linear(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        ctx.save_for_backward(x, weight)
        return _onednn(x, weight, bias)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, weight = ctx.saved_tensors
        needs_x, needs_weight, needs_bias = ctx.needs_input_grad
        grad = grad.contiguous()
        return (
            _onednn(grad, weight.t(), None) if needs_x else None,
            _outer(grad, x) if needs_weight else None,
            grad.sum(0) if needs_bias else None,
        )
