"""Products with constant sparse matrices, and scores of chosen (user, item) pairs.

All of them are an `embedding_bag`: on a CPU it is several times faster than torch's sparse tensors
or a gather, it also works on a GPU, and it is exact in double precision.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from recbole_llm.data.rows.split import stable_order

Product = Callable[[Tensor], Tensor]


def weighted_sums(table: Tensor, ids: Tensor, starts: Tensor, weights: Tensor) -> Tensor:
    """Row r is the sum of `weights[j] * table[ids[j]]` over starts[r] <= j < starts[r + 1].

    Args:
        table: [n, D].
        ids: int [m].
        starts: int [R]; the last row ends at m.
        weights: [m].

    Returns:
        [R, D]; an empty row is zero.
    """
    return F.embedding_bag(ids, table.to(weights.dtype), starts, mode="sum",
                           per_sample_weights=weights)  # fmt: skip


def linear_operator(x: Tensor, product: Product, transposed: Product) -> Tensor:
    """`product(x)` for a constant matrix, whose gradient is `transposed(gradient)`."""
    return _LinearOperator.apply(x, product, transposed)  # type: ignore[no-untyped-call]


class _LinearOperator(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, product: Product, transposed: Product) -> Tensor:
        ctx.transposed, ctx.dtype = transposed, x.dtype
        return product(x)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        return ctx.transposed(grad).to(ctx.dtype), None, None


def pair_scores(users: Tensor, items: Tensor, ids: Tensor) -> Tensor:
    """<users[b], items[ids[b, j]]>, without a copy of the chosen rows ([B, k, D]).

    Args:
        users: [B, D].
        items: [n, D].
        ids: int [B, k].

    Returns:
        [B, k]; in float32 if the vectors are narrower.
    """
    dtype = torch.promote_types(users.dtype, torch.float32)
    with torch.autocast(users.device.type, enabled=False):
        users, items = users.to(dtype), items.to(dtype)
        return _PairScores.apply(users, items, ids)  # type: ignore[no-untyped-call]


class _PairScores(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, users: Tensor, items: Tensor, ids: Tensor) -> Tensor:
        ctx.save_for_backward(users, items, ids)
        # The gradient of a weighted sum of rows by a weight is the product with the weight's row.
        weights = users.new_zeros(ids.numel(), requires_grad=True)
        with torch.enable_grad():
            sums = weighted_sums(items.detach(), ids.reshape(-1), _row_starts(ids), weights)
        (scores,) = torch.autograd.grad(sums, weights, users.detach())
        return scores.view_as(ids)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
        users, items, ids = ctx.saved_tensors
        by_user = by_item = None
        if ctx.needs_input_grad[0]:
            by_user = weighted_sums(items, ids.reshape(-1), _row_starts(ids), grad.reshape(-1))
        if ctx.needs_input_grad[1]:
            order, starts = _grouped(ids.reshape(-1), len(items))
            rows = torch.div(order, ids.shape[1], rounding_mode="floor")
            by_item = weighted_sums(users, rows, starts, grad.reshape(-1)[order])
        return by_user, by_item, None


def _row_starts(ids: Tensor) -> Tensor:
    return torch.arange(0, ids.numel(), ids.shape[1], device=ids.device)


def _grouped(ids: Tensor, size: int) -> tuple[Tensor, Tensor]:
    """Positions in order of their id, and where each id's positions start, [m] and [size]."""
    counts = torch.bincount(ids, minlength=size)
    starts = torch.cumsum(counts, 0) - counts
    if ids.device.type != "cpu":
        return torch.argsort(ids, stable=True), starts
    return torch.from_numpy(stable_order(ids.numpy())), starts
