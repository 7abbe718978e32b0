"""Interactions stored once, sorted by user and time, and the values that rows read from them.

Legend: N interactions, B rows of a batch, L ``MAX_ITEM_LIST_LENGTH``, S length of a sequence-valued
field.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

# A function from rows (positions of targets) to a column's values, int [B] -> [B, *]; or a tensor,
# which is a column that was set from outside.
Column = Callable[[Tensor], Tensor] | Tensor


@dataclass(frozen=True)
class SortedInteractions:
    """All interactions, sorted by user and time; never changed once made."""

    # field -> [N + L, *]; the last L rows are zeros, so that a window of length L fits wherever it
    # starts
    columns: Mapping[str, Tensor]
    position: Tensor  # number of earlier interactions of the same user, int32 [N]
    max_length: int  # L
    # field -> float64 [N, *], for fields that lose precision as float32; they are sorted by these
    exact: Mapping[str, Tensor] = field(default_factory=dict)

    def target(self, field: str, rows: Tensor) -> Tensor:
        """A field's values at the targets: int [B] -> [B, *]."""
        return self.columns[field].index_select(0, rows)

    def lengths(self, rows: Tensor) -> Tensor:
        """Number of interactions before each target, at most L: int [B] -> int64 [B]."""
        return self.position[rows].clamp(max=self.max_length).long()

    def history(self, field: str, width: int | None, rows: Tensor) -> Tensor:
        """Values before each target, zero-padded on the right: int [B] -> [B, L, *].

        Args:
            width: S as the data set declares it, for sequence-valued fields.
        """
        length = self.lengths(rows)  # [B]
        return windows(self.columns[field], rows - length, length, self.max_length, width)


def padded_rows(values: Tensor, order: Tensor, padding: int) -> Tensor:
    """values[order] followed by zeros: [N, *] -> [N + padding, *]."""
    out = values.new_zeros((len(order) + padding, *values.shape[1:]))
    torch.index_select(values, 0, order, out=out[: len(order)])
    return out


def windows(
    values: Tensor, starts: Tensor, lengths: Tensor, longest: int, width: int | None
) -> Tensor:
    """Windows of rows, zero-padded on the right: [N + L, *], int [B], int [B] -> [B, L, *].

    Args:
        values: the rows; at least L rows, of any content, follow each start.
        starts: first row of each window.
        lengths: number of rows in each window.
        longest: L.
        width: S as the data set declares it, for sequence-valued fields.
    """
    every = values.unfold(0, longest, 1).movedim(-1, 1)
    out = every.index_select(0, starts)  # [B, L, *]
    padding = torch.arange(longest) >= lengths[:, None]  # [B, L]
    out.masked_fill_(padding.view(*padding.shape, *[1] * (values.dim() - 1)), 0)
    return out if width is None else _pad_list_width(out, width)


def _pad_list_width(out: Tensor, width: int) -> Tensor:
    """Pad or cut lists as RecBole's assignment to zeros does: [B, L, S', *] -> [B, L, S, *]."""
    have = out.shape[2]
    if have == width:
        return out
    if have == 1:  # RecBole's assignment broadcasts
        return out.expand(*out.shape[:2], width, *out.shape[3:]).contiguous()
    wide = out.new_zeros((*out.shape[:2], width, *out.shape[3:]))
    wide[:, :, :have] = out[:, :, :width]
    return wide
