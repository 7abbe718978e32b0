"""Losses over catalogues of any size.

T is the number of supervised positions, D the state size, and n the number of rows of the item
table. Row 0 of a table is the padding item.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from recbole_llm.layers.matmul import TILE, add_outer_, product, rounded_factors

LOGIT_BUDGET = 2_000_000  # logits held at once: 8 MB in float32, which fits a level-3 cache
LOG2_E = 1.4426950408889634
SAFE_EXPONENT = 100.0  # 2**100 times a million items still fits float32


def bce(pos: Tensor, neg: Tensor) -> Tensor:
    """Binary cross entropy: mean softplus(-pos) + mean softplus(neg), of logits [T] and [T, k]."""
    return F.softplus(-pos).mean() + F.softplus(neg).mean()


def bpr(pos: Tensor, neg: Tensor) -> Tensor:
    """Bayesian personalized ranking (Rendle et al. 2009): mean -log sigmoid(pos - neg), of logits
    [T] and [T, k]."""
    return F.softplus(neg - pos.unsqueeze(1)).mean()


def sampled_softmax(pos: Tensor, neg: Tensor) -> Tensor:
    """Cross entropy of the target against its uniformly drawn negatives, from logits [T] and
    [T, k]."""
    logits = torch.cat([pos.unsqueeze(1), neg], dim=1)  # [T, 1 + k]
    return (torch.logsumexp(logits, dim=1) - pos).mean()


def unit_rows(*matrices: Tensor) -> list[Tensor]:
    """Scale rows to length 1, [*, H] each, in float32 or wider, since a temperature magnifies the
    rounding errors of cosines. Call it, and use the result, with autocast off."""
    wide = (x.to(torch.promote_types(x.dtype, torch.float32)) for x in matrices)
    return [F.normalize(x, dim=-1) for x in wide]


def info_nce(
    one: Tensor, other: Tensor, temperature: float, owners: Tensor | None = None
) -> Tensor:
    """Symmetric InfoNCE between two views of the same things, scalar.

    Mean over both directions of -log softmax(cosine / temperature) at the row's own counterpart.

    Args:
        one, other: the views, [B, H] each.
        temperature: above 0.
        owners: int [B]; other rows of the same owner are not negatives.
    """
    with torch.autocast(one.device.type, enabled=False):
        one, other = unit_rows(one, other)
        logits = one @ other.t() / temperature  # [B, B]
    rows = torch.arange(len(logits), device=logits.device)
    if owners is not None:
        again = (owners[:, None] == owners) & (rows[:, None] != rows)
        logits = logits.masked_fill(again, -torch.inf)
    return (F.cross_entropy(logits, rows) + F.cross_entropy(logits.t(), rows)) / 2


def cross_entropy(
    states: Tensor, table: Tensor, targets: Tensor, *, padding_item: bool = False
) -> Tensor:
    """Mean softmax cross entropy over the catalogue, exact, in bounded memory.

    Gradients are computed together with the loss, a chunk of rows at a time, so the [T, n]
    logits never exist at once.

    Args:
        states: [T, D].
        table: item vectors, [n, D].
        targets: int [T], rows of `table`.
        padding_item: whether row 0 takes part in the softmax, as in RecBole's own models.

    Returns:
        Scalar; 0 (with zero gradients) when T is 0.
    """
    first = 0 if padding_item else 1
    device = states.device.type
    mixed = torch.is_autocast_enabled(device)
    # Powers up to 2 ** SAFE_EXPONENT exceed half precision: results stay float32 or wider.
    dtype = torch.promote_types(table.dtype, torch.float32)
    with torch.autocast(device, enabled=False), rounded_factors(mixed):
        states, table = states.to(dtype), table.to(dtype)
        return _CrossEntropy.apply(states, table, targets, first)  # type: ignore[no-untyped-call]


class _CrossEntropy(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, states: Tensor, table: Tensor, targets: Tensor, first: int) -> Tensor:
        needs = ctx.needs_input_grad[:2]
        by_states = torch.zeros_like(states) if needs[0] else None
        # Column-major, like the results of products with a narrow factor; see `matmul`.
        by_table = table.new_zeros(table.shape[::-1]).t() if needs[1] else None
        scale = 1.0 / max(1, states.shape[0])
        by_items = None if by_table is None else by_table[first:]
        total = _partition(states, table[first:], scale, by_states, by_items)
        chosen = table[targets]  # [T, D]
        if by_states is not None:
            by_states.sub_(chosen, alpha=scale)
        if by_table is not None:
            by_table.index_add_(0, targets, states, alpha=-scale)
        ctx.save_for_backward(by_states, by_table)
        return (total - (states * chosen).sum()) * scale

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        by_states, by_table = ctx.saved_tensors
        if by_states is not None:
            by_states = by_states * grad
        if by_table is not None:  # row by row, so that the parameter takes it without a copy
            rows = torch.empty(by_table.shape, dtype=by_table.dtype, device=by_table.device)
            by_table = torch.mul(by_table, grad, out=rows)
        return by_states, by_table, None, None


def _partition(
    states: Tensor,
    items: Tensor,
    scale: float,
    by_states: Tensor | None,
    by_items: Tensor | None,
) -> Tensor:
    """Return the sum over rows of log sum_i exp <state, item i>; add `scale` times its gradients.

    One tile of logits is held at a time: all items for some rows or, if the budget allows only few
    rows, some items for many rows, computed once for the sums and again for the gradients.
    exp(x) is computed as 2**(x log2 e), which torch vectorizes several times better.
    """
    rows, tiles = _tiling(items.shape[0])
    scaled = states * LOG2_E
    safe = _safe(scaled, items)
    total = states.new_zeros(())
    for part in _row_parts(states.shape[0], rows):
        sums, shift, powers = _sums(scaled[part], items, tiles, safe)
        total += sums.log().sum() + shift.sum() / LOG2_E
        weights = (scale / sums).unsqueeze(1)
        weighted = states[part] * weights
        for tile in reversed(tiles) if by_states is not None or by_items is not None else ():
            if tile is not tiles[-1]:
                powers = product(scaled[part], items[tile]).sub_(shift.unsqueeze(1)).exp2_()
            if by_states is not None:
                by_states[part] += product(powers, items[tile].t()) * weights
            if by_items is not None:
                add_outer_(by_items[tile], powers, weighted)
    return total


def _sums(
    scaled: Tensor, items: Tensor, tiles: list[slice], safe: bool
) -> tuple[Tensor, Tensor, Tensor]:
    """Return row sums of 2 ** (logit - shift) [R], the shift [R], and the last tile's powers.

    The shift is the row's largest logit, or 0 where that cannot overflow.
    """
    sums = scaled.new_zeros(scaled.shape[0])
    shift = torch.zeros_like(sums) if safe else torch.full_like(sums, -torch.inf)
    for tile in tiles:
        powers = product(scaled, items[tile])
        if not safe:
            largest = torch.maximum(shift, powers.amax(1))
            sums *= (shift - largest).exp2_()
            shift = largest
            powers.sub_(shift.unsqueeze(1))
        sums += powers.exp2_().sum(1)
    return sums, shift, powers


def _safe(scaled: Tensor, items: Tensor) -> bool:
    """Return whether all powers fit float32, by the Cauchy-Schwarz bound, at 1 % of the cost."""
    if not scaled.shape[0]:
        return True
    return bool(scaled.norm(dim=1).amax() * items.norm(dim=1).amax() <= SAFE_EXPONENT)


def _tiling(n: int) -> tuple[int, list[slice]]:
    """Return the number of rows of a tile, and the tiles' column ranges.

    With fewer than 2 * TILE rows, adding to the table's gradient would take longer than
    computing the logits a second time.
    """
    rows = LOGIT_BUDGET // n // TILE * TILE
    if rows >= 2 * TILE:
        return rows, [slice(0, n)]
    rows = min(8 * TILE, LOGIT_BUDGET)
    width = LOGIT_BUDGET // rows
    return rows, [slice(start, min(n, start + width)) for start in range(0, n, width)]


def _row_parts(count: int, rows: int) -> list[slice]:
    """Parts of `rows` rows; the rest is split in two, the first a multiple of TILE (`matmul`)."""
    ends = sorted({*range(rows, count + 1, rows), count // TILE * TILE, count} - {0})
    return [slice(a, b) for a, b in zip([0, *ends], ends, strict=False)]
