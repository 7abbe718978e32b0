"""Exact first places of rankings over catalogues that are too large to be scored at once.

Legend: B rows, n items, D size of vectors, w items of a block, k length of the lists.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from recbole_llm.evaluation.positives import split_rows
from recbole_llm.evaluation.ties import draw_keys, shuffled_ties
from recbole_llm.layers.matmul import scores

GROUP = 128  # items per group of `_fast_topk`
ItemKeys = Callable[[], Tensor]


class BlockScores:
    """Scores of rows against a catalogue: products of vectors, of which only blocks are computed.

    Args:
        rows: [B, D].
        items: [n, D].
        masked: rows and items that may not be ranked, int [M] each; item 0 is never ranked.
        width: w.
    """

    def __init__(
        self, rows: Tensor, items: Tensor, masked: tuple[Tensor, Tensor] | None, width: int
    ) -> None:
        self.rows, self.items, self.width = rows, items, width
        self.shape, self.device = torch.Size((len(rows), len(items))), rows.device
        no = torch.zeros(0, dtype=torch.int64)
        masked_rows, masked_items = (ids.to(rows.device) for ids in masked or (no, no))
        order = masked_items.argsort()
        self._masked_rows, self._masked_items = masked_rows[order], masked_items[order]

    def __len__(self) -> int:
        return len(self.rows)

    def top_items(self, k: int, numbers: Tensor, item_keys: ItemKeys) -> Tensor:
        """The first k items of each row; ties are drawn, see `ties`.

        Args:
            k: length of the lists, n at most.
            numbers: numbers of the rows in the evaluation, int64 [B].
            item_keys: returns the items' keys for the draw, int64 [n]; called if scores tie.

        Returns:
            int64 [B, k].
        """
        values = self.rows.new_empty(len(self), 0)
        items = torch.empty(values.shape, dtype=torch.int64, device=self.device)
        for first in range(0, len(self.items), self.width):
            more = _top_of_block(self._block(first), k, first, numbers, item_keys)
            values = torch.cat([values, more[0]], dim=1)
            items = torch.cat([items, more[1]], dim=1)
            values, items = _sort_drawing_ties(values, items, numbers, item_keys)
            values, items = values[:, :k], items[:, :k]
        return items

    def _block(self, first: int) -> Tensor:
        """Scores of the w items from `first` on, -inf for those that may not be ranked, [B, w]."""
        block = scores(self.rows, self.items[first : first + self.width])
        ends = torch.tensor([first, first + self.width], device=self.device)
        own = slice(*torch.searchsorted(self._masked_items, ends).tolist())
        block[self._masked_rows[own], self._masked_items[own] - first] = -torch.inf
        if not first:
            block[:, 0] = -torch.inf
        return block


def top_items(scores: Tensor, k: int, numbers: Tensor, item_keys: ItemKeys) -> Tensor:
    """The first k items of each row of whole scores [B, n]; see `BlockScores.top_items`."""
    return _sort_drawing_ties(*_top_of_block(scores, k, 0, numbers, item_keys), numbers, item_keys)[
        1
    ]


def _top_of_block(
    block: Tensor, k: int, first: int, numbers: Tensor, item_keys: ItemKeys
) -> tuple[Tensor, Tensor]:
    """Scores and items of each row's first k in a block that starts at item `first`, or of all its
    items if they are fewer, [B, *] each."""
    width = block.shape[1]
    values, places = _fast_topk(block, min(k + 1, width))  # one more shows a tie at the cut
    if bool(values.isnan().any()):  # NaN comes last, as in `ties`
        block.nan_to_num_(nan=-torch.inf, posinf=torch.inf, neginf=-torch.inf)
        values, places = _fast_topk(block, min(k + 1, width))
    if width > k:
        cut = (values[:, k] == values[:, k - 1]).nonzero().view(-1)
        for part in split_rows(cut, width):
            keys = item_keys()[first : first + width]
            places[part, :k] = shuffled_ties(block[part], k, numbers[part], keys)
    return values[:, :k], places[:, :k] + first


def _fast_topk(block: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """``torch.topk(block, k)``, which for many items takes a quarter of the time on a CPU."""
    n_groups = block.shape[1] // GROUP
    if n_groups <= 8 * k:  # slower for fewer groups
        return torch.topk(block, k, dim=1)
    # The k highest scores are in the k groups with the highest maxima, or in the rest.
    grouped = block[:, : n_groups * GROUP].view(len(block), n_groups, GROUP)
    groups = grouped.amax(2).topk(k, dim=1).indices  # [B, k]
    places = torch.arange(block.shape[1], device=block.device)
    inside = groups[:, :, None] * GROUP + places[:GROUP]
    rest = places[n_groups * GROUP :].expand(len(block), -1)
    candidates = torch.cat([inside.flatten(1), rest], dim=1)
    values, chosen = block.gather(1, candidates).topk(k, dim=1)
    return values, candidates.gather(1, chosen)


def _sort_drawing_ties(
    values: Tensor, items: Tensor, numbers: Tensor, item_keys: ItemKeys
) -> tuple[Tensor, Tensor]:
    """Sort scores and items of each row, the best first and ties in drawn order, [S, m] each."""
    values, order = values.sort(dim=1, descending=True)
    items = items.gather(1, order)
    tied = (values[:, 1:] == values[:, :-1]).any(1).nonzero().view(-1)  # [T]
    if len(tied):
        own, scored = items[tied], values[tied]
        order = draw_keys(item_keys()[own], numbers[tied, None]).argsort(1)
        by_score = scored.gather(1, order).argsort(dim=1, descending=True, stable=True)
        order = order.gather(1, by_score)
        items[tied] = own.gather(1, order)
    return values, items
