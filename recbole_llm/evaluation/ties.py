"""Tied scores: one order of the tied items for hits and lists alike, which favors no item.

No item ranks before another with the same score, so a metric is defined as its mean over all
orders of the tied items. RecBole's format has one list per user, so each user gets one of these
orders, drawn at random; over users the metric is an unbiased estimate of the mean. Every metric,
of all items or of a group, reads the same list. The draw depends only on the item's token and on
the user's place in the evaluation. It does not depend on item ids, whose order would favor some
items (as in ``torch.topk``), nor on the batch size.
"""

from __future__ import annotations

import torch
from torch import Tensor

LAST = torch.iinfo(torch.int64).max  # key of an item that comes last among its ties


def put_nan_last(scores: Tensor) -> Tensor:
    """Scores with NaN replaced by -inf, which masked items have."""
    return scores.nan_to_num(nan=-torch.inf, posinf=torch.inf, neginf=-torch.inf)


def shuffled_ties(scores: Tensor, k: int, rows: Tensor, item_keys: Tensor) -> Tensor:
    """The k best items of each row, ties in an order drawn from the item's key and the row.

    Args:
        scores: [B, n].
        rows: number of each row in the evaluation, int64 [B].
        item_keys: each item's key for the draw, int64 [n]: a hash of its token, so that
            renumbering the items changes nothing.

    Returns:
        items, int64 [B, k].
    """
    scores = put_nan_last(scores)
    least = torch.topk(scores, k, dim=1).values[:, -1:]
    # The list and all that ties with its end: C candidates, at least k per row.
    row, item = (scores >= least).nonzero(as_tuple=True)
    order = draw_keys(item_keys[item], rows[row]).argsort()
    order = order[scores[row[order], item[order]].argsort(descending=True, stable=True)]
    order = order[row[order].argsort(stable=True)]
    sizes = torch.bincount(row, minlength=len(scores))
    place = torch.arange(len(row), device=row.device) - (sizes.cumsum(0) - sizes)[row]
    return item[order[place < k]].view(len(scores), k)


def draw_keys(item_keys: Tensor, rows: Tensor) -> Tensor:
    """Random keys that order tied items in a row, int64 [*], from item keys and row numbers."""
    return torch.where(item_keys == LAST, LAST, _mix_bits(item_keys + _mix_bits(rows)))


def _mix_bits(x: Tensor) -> Tensor:
    """The finalizer of splitmix64 (Steele et al., OOPSLA 2014), int64 wrapping around."""
    for shift, factor in ((30, -0x40A7B892E31B1A47), (27, -0x6B2FB644ECCEEE15)):
        x = (x ^ ((x >> shift) & ((1 << (64 - shift)) - 1))) * factor
    return x ^ ((x >> 31) & ((1 << 33) - 1))
