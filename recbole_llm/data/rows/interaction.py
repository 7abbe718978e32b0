"""A lazy stand-in for RecBole's ``Interaction`` of a sequential data set.

RecBole's data augmentation writes out every prefix of every history: O(N·L) memory for N
interactions and lists of length L. Here the interactions are stored once, sorted by user and time,
and a row is just the position of its target; its lists are gathered on access.

Legend: R rows.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, MutableMapping
from typing import Any

import numpy as np
import torch
from recbole.data.interaction import Interaction
from torch import Tensor

from recbole_llm.data.rows.histories import Column, SortedInteractions
from recbole_llm.data.rows.split import stable_order
from recbole_llm.data.rows.target_ranges import TargetRanges


def row_index(index: object) -> Tensor | slice:
    """Convert any index that RecBole uses on an ``Interaction`` to one for tensors."""
    if isinstance(index, slice):
        return index
    rows = index if isinstance(index, Tensor) else torch.from_numpy(np.asarray(index))
    return rows if rows.dtype in (torch.bool, torch.int64) else rows.long()


def take(interaction: Interaction, index: object) -> Interaction:
    """``interaction[index]``, without RecBole's detour through a Python list for arrays."""
    if isinstance(interaction, SequenceInteraction):
        return interaction.batch(index)
    if isinstance(index, (np.ndarray, Tensor)):
        rows = row_index(index)
        return Interaction({k: v[rows] for k, v in interaction.interaction.items()})
    return interaction[index]


def order_key(rows: Interaction, name: str) -> Any:
    """Values to sort rows by, [R]: a column's exact values, or the first number of each pair."""
    values = rows.exact(name) if isinstance(rows, SequenceInteraction) else rows[name]
    return (values if values.dim() == 1 else values[..., 0]).numpy()


def single_precision(rows: Interaction) -> Interaction:
    """The rows as models read them: exact times, float64 for sorting, become float32."""
    for name, column in rows.interaction.items():
        if column.dtype == torch.float64:
            rows.interaction[name] = column.float()
    return rows


class SequenceColumns(MutableMapping[str, Tensor]):
    """Column name -> values of all rows [R, *], gathered on access.

    Args:
        source: the interactions.
        rows: positions of the targets in `source`, int64 [R]; or `TargetRanges`, from which the
            positions are made on first use.
        columns: each row's columns, by name.
    """

    def __init__(
        self, source: SortedInteractions, rows: Tensor | TargetRanges, columns: Mapping[str, Column]
    ) -> None:
        self.source = source
        self._ranges = rows if isinstance(rows, TargetRanges) else None
        self._rows = None if isinstance(rows, TargetRanges) else rows
        self.columns = dict(columns)
        self._cache: dict[str, Tensor] = {}

    @property
    def rows(self) -> Tensor:
        """Positions of the targets in the source, int64 [R]."""
        if self._rows is None:
            assert self._ranges is not None
            self._rows = self._ranges.rows()
        return self._rows

    @property
    def count(self) -> int:
        """Number of rows, R."""
        return len(self.rows) if self._ranges is None else self._ranges.count

    def target_ranges(self) -> TargetRanges:
        """The targets as ranges of histories."""
        if self._ranges is not None:
            return self._ranges
        return TargetRanges.of(self.rows.numpy(), self.source.position.numpy())

    def __getitem__(self, name: str) -> Tensor:
        column = self.columns[name]
        if isinstance(column, Tensor):
            return column
        if name in self.source.columns:
            return column(self.rows)
        # Gather a whole list column once only; FEARec reads one in a loop.
        if name not in self._cache:
            self._cache[name] = column(self.rows)
        return self._cache[name]

    def __setitem__(self, name: str, value: Tensor) -> None:
        self.columns[name] = value
        self._cache.pop(name, None)

    def __delitem__(self, name: str) -> None:
        del self.columns[name]
        self._cache.pop(name, None)

    def __iter__(self) -> Iterator[str]:
        return iter(self.columns)

    def __contains__(self, name: object) -> bool:
        return name in self.columns

    def __len__(self) -> int:
        return len(self.columns)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_cache": {}}

    def select(self, index: Tensor | slice) -> SequenceColumns:
        """The same columns for some of the rows."""
        columns = {k: v[index] if isinstance(v, Tensor) else v for k, v in self.columns.items()}
        return SequenceColumns(self.source, self.rows[index], columns)


class SequenceInteraction(Interaction):  # type: ignore[misc]
    """``Interaction`` over lazy columns: RecBole's methods work; rows are selected without copies.

    ``view[index]`` is again a view; ``view.batch(index)`` is a plain ``Interaction``.
    """

    def __init__(self, columns: SequenceColumns) -> None:
        self.interaction = columns
        self.length = columns.count

    def __getitem__(self, index: object) -> Any:
        if isinstance(index, str):
            return self.interaction[index]
        return SequenceInteraction(self.interaction.select(row_index(index)))

    def batch(self, index: object) -> Interaction:
        """Rows as RecBole's own ``Interaction``: the values it would hold, gathered now."""
        return Interaction(dict(self.interaction.select(row_index(index))))

    def _reindex(self, index: object) -> None:
        self.interaction = self.interaction.select(row_index(index))
        self.length = self.interaction.count

    def exact(self, name: str) -> Tensor:
        """A column's values for sorting rows: float64 if its exact values are kept."""
        exact, rows = self.interaction.source.exact, self.interaction.rows
        given = isinstance(self.interaction.columns[name], Tensor)  # set from outside
        return self.interaction[name] if given or name not in exact else exact[name][rows]

    def sort(self, by: str | list[str], ascending: bool | list[bool] = True) -> None:
        """Sort the rows in place."""
        if isinstance(by, str) and by in self and ascending is True and self[by].dim() == 1:
            self._reindex(stable_order(order_key(self, by)))
        else:
            super().sort(by, ascending)

    def __deepcopy__(self, memo: dict[int, Any]) -> SequenceInteraction:
        old = self.interaction
        columns = {k: v.clone() if isinstance(v, Tensor) else v for k, v in old.columns.items()}
        return SequenceInteraction(SequenceColumns(old.source, old.rows.clone(), columns))
