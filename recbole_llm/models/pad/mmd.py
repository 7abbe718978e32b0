"""Distances between two sets of item vectors; PAD's second phase minimizes one of them.

These are multi-kernel maximum mean discrepancy, equal to the authors' estimator (tllib's
``MultipleKernelMaximumMeanDiscrepancy``), and the measures that the paper's ablation compares with
it. Gaussian and Laplace kernels are *characteristic*: the discrepancy is zero only
if the two distributions are the same. Linear and cosine kernels compare only the means.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from recbole_llm.layers.losses import info_nce

# Bandwidths as multiples of the mean (squared) distance: 2^u, u = -3 ... 1 (authors' code); each
# is twice the one before it, which `_exponentials` relies on.
BANDWIDTHS = (0.125, 0.25, 0.5, 1.0, 2.0)
TEMPERATURE = 0.2  # of infonce
# The sum of all kernels between the rows of a and of b: ([p, H], [q, H]) -> [p, q].
Kernel = Callable[[Tensor, Tensor], Tensor]


def alignment_loss(x: Tensor, y: Tensor, measure: str = "gaussian") -> Tensor:
    """Distance between the rows of x and of y.

    Args:
        x, y: vectors of the same items, [m, H]; gradients flow into both.
        measure: a name in ``MEASURES``.

    Returns:
        a scalar; zero, with zero gradients, for m < 2, where no estimator is defined.
    """
    if len(x) < 2:
        return (x.sum() + y.sum()) * 0.0
    # In bfloat16, distances of close vectors, and so their gradients, would be rounding errors.
    with torch.autocast(x.device.type, enabled=False):
        x, y = (v.to(torch.promote_types(v.dtype, torch.float32)) for v in (x, y))
        return info_nce(x, y, TEMPERATURE) if measure == "infonce" else mk_mmd(x, y, measure)


def mk_mmd(x: Tensor, y: Tensor, kernel: str = "gaussian") -> Tensor:
    """Multi-kernel MMD of two sets of m >= 2 vectors each (PAD, section 3.2; tllib ``dan.py``).

    With k the sum of the kernels: mean_{i!=j} k(x_i, x_j) + mean_{i!=j} k(y_i, y_j)
    - 2 mean_{i,j} k(x_i, y_j) + 2/(m-1). The last term is tllib's constant, which keeps the
    estimate above zero. Rows are not paired.

    Args:
        x, y: [m, H].
        kernel: ``gaussian``, ``laplace``, ``linear`` or ``cosine``.
    """
    m = len(x)
    if kernel == "cosine":
        x, y = F.normalize(x, dim=-1), F.normalize(y, dim=-1)
    # The results do not depend on the origin, but rounding does: subtract the common mean.
    z = torch.cat([x, y]).detach()
    x, y = x - z.mean(0), y - z.mean(0)
    k = _KERNELS[kernel](x, y, _rounding(z))
    within = _off_diagonal_sum(k(x, x)) + _off_diagonal_sum(k(y, y))
    return within / (m * (m - 1)) - 2 * k(x, y).mean() + 2 / (m - 1)


def _rounding(z: Tensor) -> Tensor:
    """Return the rounding error of squared distances of rows [n, H]: the larger of that of the rows
    and that of products of centered rows. As the least bandwidth it makes 0/0 of equal rows zero.
    """
    info, variance = torch.finfo(z.dtype), (z - z.mean(0)).square().sum(-1).mean()
    square = z.square().sum(-1).mean()
    return torch.maximum(4 * info.eps**2 * square, info.eps * variance) + info.tiny**0.5


def _gaussian(x: Tensor, y: Tensor, floor: Tensor) -> Kernel:
    # x and y are centered, so the mean over all pairs of |z_i - z_j|^2 is twice the mean |z|^2.
    mean = 2 * torch.cat([x, y]).detach().square().sum(-1).mean()
    widest = 2 * BANDWIDTHS[-1] * torch.maximum(mean, floor)
    return lambda a, b: _exponentials(_squared_distance(a, b), widest)


def _laplace(x: Tensor, y: Tensor, floor: Tensor) -> Kernel:
    def distance(a: Tensor, b: Tensor) -> Tensor:
        squared = _squared_distance(a, b)
        apart = squared > floor  # the root's gradient is infinite at 0
        return torch.where(apart, torch.where(apart, squared, 1.0).sqrt(), 0.0)

    with torch.no_grad():
        z = torch.cat([x, y])
        mean = torch.maximum(distance(z, z).mean(), floor.sqrt())
    return lambda a, b: _exponentials(distance(a, b), BANDWIDTHS[-1] * mean)


def _linear(x: Tensor, y: Tensor, floor: Tensor) -> Kernel:
    return lambda a, b: a @ b.T


def _squared_distance(a: Tensor, b: Tensor) -> Tensor:
    squares = a.square().sum(-1)[:, None] + b.square().sum(-1)  # [p, q]
    return torch.addmm(squares, a, b.T, alpha=-2)  # zero for equal rows, up to rounding


class _Exponentials(torch.autograd.Function):
    """Sum of exp(-2^u d / w) over `BANDWIDTHS`, each term the square of the one before it; the
    slope is summed in the same pass, since passes over [p, q] cost more than arithmetic."""

    @staticmethod
    def forward(ctx: Any, distance: Tensor, widest: Tensor) -> Tensor:
        term = torch.exp(distance / -widest)
        total, slope = term.clone(), term.clone()
        for u in range(1, len(BANDWIDTHS)):
            term.square_()
            total += term
            slope.add_(term, alpha=2**u)
        ctx.save_for_backward(slope.div_(-widest))
        return total

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        (slope,) = ctx.saved_tensors
        return grad * slope, None


def _exponentials(distance: Tensor, widest: Tensor) -> Tensor:
    return _Exponentials.apply(distance, widest)  # type: ignore[no-untyped-call]


def _off_diagonal_sum(matrix: Tensor) -> Tensor:
    return matrix.sum() - matrix.diagonal().sum()


_KERNELS = {"gaussian": _gaussian, "laplace": _laplace, "linear": _linear, "cosine": _linear}
MEASURES = (*_KERNELS, "infonce")
