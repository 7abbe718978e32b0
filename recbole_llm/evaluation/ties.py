"""Tied scores: what a ranking metric may expect of them, without favour to any item.

Of items with the same score none ranks before another, so a metric is to be read as its mean
over all orders of the tied items. RecBole's format has one list a user, so each user gets one
of those orders, drawn in proportion; over users the metric is an unbiased estimate of the mean.
The draw depends on the user's place in the evaluation only: not on item ids, whose order would
otherwise reward an item (``torch.topk`` favours some ids), nor on the batch size.
"""

from __future__ import annotations

import torch
from torch import Tensor

GOLDEN = 0.6180339887498949  # its multiples, modulo 1, are spread as evenly as can be


def row_draws(first_row: int, count: int, device: torch.device) -> Tensor:
    """One number in [0, 1) for each of the rows first_row, first_row + 1, …; float64 [count]."""
    rows = torch.arange(first_row + 1, first_row + count + 1, dtype=torch.float64, device=device)
    return (rows * GOLDEN) % 1.0


def draw_hits(values: Tensor, sizes: Tensor, positives: Tensor, draws: Tensor) -> Tensor:
    """Which places of the lists hold positives, when each tie is broken in random order.

    Along a tie of G items with M positives, place after place is a positive with probability
    M/G of what is left (selection sampling; Knuth, TAOCP 2, 3.4.2 S), which makes every choice
    of places equally likely. One uniform number serves all places: given that it fell below p
    (or not), its position within [0, p) (or [p, 1)) is uniform again.

    Args:
        values: scores of the list, descending, [B, k].
        sizes: number of the row's items with that score, [B, k].
        positives: number of positives among them, [B, k].
        draws: float64 [B], uniform in [0, 1).

    Returns:
        bool [B, k]; where there is no tie, whether the item is a positive.
    """
    hits = torch.zeros_like(values, dtype=torch.bool)
    left = left_positives = draws  # both set at the first place
    for place in range(values.shape[1]):
        size, positive = sizes[:, place].double(), positives[:, place].double()
        if place == 0:
            left, left_positives = size, positive
        else:
            new = values[:, place] != values[:, place - 1]
            left = torch.where(new, size, left)
            left_positives = torch.where(new, positive, left_positives)
        chance = left_positives / left
        hit = draws < chance
        draws = torch.where(hit, draws / chance, (draws - chance) / (1 - chance))
        draws = draws.clamp(0, 1 - 2**-53)  # rounding must not turn a certain hit into a miss
        left, left_positives = left - 1, left_positives - hit.double()
        hits[:, place] = hit
    return hits


def shuffled_ties(scores: Tensor, k: int, first: Tensor, item_keys: Tensor) -> Tensor:
    """The k best items of each row, ties in an order drawn from the item's key and the row.

    Args:
        scores: [B, n].
        k: length of the list.
        first: number of the row in the evaluation, int64 [B].
        item_keys: what the draw knows of an item, int64 [n]: a hash of its token, so that
            renumbering the items changes nothing.

    Returns:
        items, int64 [B, k].
    """
    order = _mixed(item_keys[None, :] + _mixed(first)[:, None]).argsort(dim=1)  # [B, n]
    ranked = scores.gather(1, order).sort(dim=1, descending=True, stable=True).indices[:, :k]
    return order.gather(1, ranked)


def _mixed(x: Tensor) -> Tensor:
    """The finaliser of splitmix64 (Steele et al., OOPSLA 2014), int64 wrapping around."""
    for shift, factor in ((30, -0x40A7B892E31B1A47), (27, -0x6B2FB644ECCEEE15)):
        x = (x ^ ((x >> shift) & ((1 << (64 - shift)) - 1))) * factor
    return x ^ ((x >> 31) & ((1 << 33) - 1))
