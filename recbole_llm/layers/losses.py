"""Losses over catalogues of any size.

T counts the supervised positions, D the state size, n the rows of the item table. Row 0 of a
table is the padding item.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

LOGIT_BUDGET = 4_000_000  # logits held at once: 16 MB in float32, about a share of L3 cache
SAFE_EXPONENT = 60.0  # exp(60) times a million items still fits float32


def bce(pos: Tensor, neg: Tensor) -> Tensor:
    """Binary cross entropy: mean softplus(-pos) + mean softplus(neg).

    Args:
        pos: logits of the targets, [T].
        neg: logits of the negatives, [T, k] (or [T]).
    """
    return F.softplus(-pos).mean() + F.softplus(neg).mean()


def bpr(pos: Tensor, neg: Tensor) -> Tensor:
    """Bayesian personalised ranking (Rendle et al. 2009): mean -log sigmoid(pos - neg).

    Args:
        pos: logits of the targets, [T].
        neg: logits of the negatives, [T, k] (or [T]).
    """
    return F.softplus(neg - _column(pos, neg)).mean()


def sampled_softmax(pos: Tensor, neg: Tensor) -> Tensor:
    """Cross entropy of the target among itself and its uniformly drawn negatives.

    Args:
        pos: logits of the targets, [T].
        neg: logits of the negatives, [T, k] (or [T]).
    """
    negatives = neg.unsqueeze(1) if neg.dim() == 1 else neg
    logits = torch.cat([pos.unsqueeze(1), negatives], dim=1)  # [T, 1 + k]
    return (torch.logsumexp(logits, dim=1) - pos).mean()


def _column(pos: Tensor, neg: Tensor) -> Tensor:
    return pos.unsqueeze(1) if neg.dim() > pos.dim() else pos


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
    with torch.autocast(states.device.type, enabled=False):
        states = states.to(table.dtype)
        loss: Tensor = _CrossEntropy.apply(states, table, targets, first)  # type: ignore[no-untyped-call]
    return loss


class _CrossEntropy(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, states: Tensor, table: Tensor, targets: Tensor, first: int) -> Tensor:
        needs = ctx.needs_input_grad[:2]
        grads = [torch.zeros_like(x) if n else None for x, n in zip((states, table), needs)]
        total = states.new_zeros(())
        size = max(1, LOGIT_BUDGET // table.shape[0])
        scale = 1.0 / max(1, states.shape[0])
        for start in range(0, states.shape[0], size):
            part = slice(start, start + size)
            total += _chunk(states[part], table, targets[part], first, scale, grads, part)
        ctx.save_for_backward(*grads)
        return total * scale

    @staticmethod
    @once_differentiable  # type: ignore[misc]
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        grads = ctx.saved_tensors
        return (*(None if g is None else g * grad for g in grads), None, None)


def _chunk(
    states: Tensor,
    table: Tensor,
    targets: Tensor,
    first: int,
    scale: float,
    grads: list[Tensor | None],
    part: slice,
) -> Tensor:
    """Summed loss of some rows; adds their gradients (times `scale`) to `grads`."""
    logits = states @ table[first:].t()  # [R, n - first]
    columns = (targets - first).unsqueeze(1)
    chosen = logits.gather(1, columns).squeeze(1)  # [R]
    logsum = logits.logsumexp(1)
    if grads[0] is not None or grads[1] is not None:
        probs = logits.sub_(logsum.unsqueeze(1)).exp_()
        probs.scatter_add_(1, columns, probs.new_full((1, 1), -1.0).expand_as(columns))
        if grads[0] is not None:
            grads[0][part] = probs @ table[first:] * scale
        if grads[1] is not None:
            grads[1][first:].addmm_(probs.t(), states, alpha=scale)
    return (logsum - chosen).sum()
