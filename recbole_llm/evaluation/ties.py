"""Tied scores: one order of the tied items for hits and lists alike, without favor to any item.

Of items with the same score none ranks before another, so a metric is to be read as its mean
over all orders of the tied items. RecBole's format has one list a user, so each user gets one
of those orders, drawn at random; over users the metric is an unbiased estimate of the mean.
Every metric, of all items or of a group, reads the same list. The draw depends on the item's
token and on the user's place in the evaluation only: not on item ids, whose order would
otherwise reward an item (``torch.topk`` favors some ids), nor on the batch size.
"""

from __future__ import annotations

import torch
from torch import Tensor

LAST = torch.iinfo(torch.int64).max  # key of what comes after all that it ties with


def put_nan_last(scores: Tensor) -> Tensor:
    """Scores of which none is NaN: those are as low as masked items'."""
    return scores.nan_to_num(nan=-torch.inf, posinf=torch.inf, neginf=-torch.inf)


def shuffled_ties(scores: Tensor, k: int, rows: Tensor, item_keys: Tensor) -> Tensor:
    """The k best items of each row, ties in an order drawn from the item's key and the row.

    Args:
        scores: [B, n].
        rows: number of each row in the evaluation, int64 [B].
        item_keys: what the draw knows of an item, int64 [n]: a hash of its token, so that
            renumbering the items changes nothing.

    Returns:
        items, int64 [B, k].
    """
    scores = put_nan_last(scores)
    least = torch.topk(scores, k, dim=1).values[:, -1:]
    # The list and whatever ties with its end: C candidates, k or more a row.
    row, item = (scores >= least).nonzero(as_tuple=True)
    order = draw_keys(item_keys[item], rows[row]).argsort()
    order = order[scores[row[order], item[order]].argsort(descending=True, stable=True)]
    order = order[row[order].argsort(stable=True)]
    sizes = torch.bincount(row, minlength=len(scores))
    place = torch.arange(len(row), device=row.device) - (sizes.cumsum(0) - sizes)[row]
    return item[order[place < k]].view(len(scores), k)


def draw_keys(item_keys: Tensor, rows: Tensor) -> Tensor:
    """Random keys that order tied items in a row, int64 [*], of items' keys and rows' numbers."""
    return torch.where(item_keys == LAST, LAST, _mix_bits(item_keys + _mix_bits(rows)))


def _mix_bits(x: Tensor) -> Tensor:
    """The finalizer of splitmix64 (Steele et al., OOPSLA 2014), int64 wrapping around."""
    for shift, factor in ((30, -0x40A7B892E31B1A47), (27, -0x6B2FB644ECCEEE15)):
        x = (x ^ ((x >> shift) & ((1 << (64 - shift)) - 1))) * factor
    return x ^ ((x >> 31) & ((1 << 33) - 1))
