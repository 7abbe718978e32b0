"""A lazy stand-in for RecBole's ``Interaction`` of a sequential data set.

RecBole's data augmentation writes every prefix of every history out: O(N·L) memory for N
interactions and lists of L. Here the interactions are kept once, sorted by user and time, and a
row is just the position of its target; its lists are gathered when somebody asks for them.

Legend: N interactions, R rows, B rows of a batch, L ``MAX_ITEM_LIST_LENGTH``, S length of a
sequence-valued field.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, MutableMapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from recbole.data.interaction import Interaction
from torch import Tensor

from recbole_llm.data.runs import Runs
from recbole_llm.data.split import order_key, stable_order


@dataclass(frozen=True)
class Target:
    """The column of a field's value in the target interaction."""

    field: str


@dataclass(frozen=True)
class History:
    """The column of a field's values in the interactions before the target.

    Args:
        field: the field.
        width: S as the data set declares it, for sequence-valued fields.
    """

    field: str
    width: int | None = None


@dataclass(frozen=True)
class Length:
    """The column of the number of interactions before the target, at most L."""


Column = Target | History | Length | Tensor  # a tensor is a column that was set from outside


@dataclass(frozen=True)
class SortedInteractions:
    """All interactions, sorted by user and time; never changed once made.

    Args:
        columns: field -> [N + L, *]; the last L rows are zeros, so that a window of L that
            starts anywhere lies inside.
        position: number of earlier interactions of the same user, int32 [N].
        max_length: L.
        exact: field -> float64 [N, *], of fields that float32 would put in another order.
    """

    columns: Mapping[str, Tensor]
    position: Tensor
    max_length: int
    exact: Mapping[str, Tensor] = field(default_factory=dict)

    def context(self, rows: Tensor) -> Tensor:
        """Number of interactions before each target, at most L: int [B] -> int32 [B]."""
        return self.position[rows].clamp(max=self.max_length)

    def history(self, column: History, rows: Tensor) -> Tensor:
        """Values before each target, zero-padded on the right: int [B] -> [B, L, *]."""
        length = self.context(rows)  # [B]
        values = self.columns[column.field]
        inner = values.shape[1:]
        windows = values.as_strided(
            (len(self.position), self.max_length, *inner),
            (values.stride(0), values.stride(0), *values.stride()[1:]),
        )
        out = windows.index_select(0, rows - length)  # [B, L, *]
        padding = torch.arange(self.max_length) >= length[:, None]  # [B, L]
        out.masked_fill_(padding.view(*padding.shape, *(1 for _ in inner)), 0)
        return out if column.width is None else _widened(out, column.width)

    def column(self, column: Column, rows: Tensor) -> Tensor:
        """The values of a column at rows (positions of targets), int [B] -> [B, *]."""
        if isinstance(column, Target):
            return self.columns[column.field].index_select(0, rows)
        if isinstance(column, History):
            return self.history(column, rows)
        assert isinstance(column, Length)
        return self.context(rows).long()


def _widened(out: Tensor, width: int) -> Tensor:
    """[B, L, S', *] -> [B, L, S, *]: RecBole assigns into a [B, L, S, *] of zeros."""
    have = out.shape[2]
    if have == width:
        return out
    if have == 1:  # its assignment broadcasts
        return out.expand(*out.shape[:2], width, *out.shape[3:]).contiguous()
    wide = out.new_zeros((*out.shape[:2], width, *out.shape[3:]))
    wide[:, :, :have] = out[:, :, :width]
    return wide


def row_index(index: object) -> Tensor | slice:
    """Any index that RecBole uses on an ``Interaction``, as something to index a tensor with."""
    if isinstance(index, slice):
        return index
    if isinstance(index, range):
        return torch.arange(index.start, index.stop, index.step)
    rows = index if isinstance(index, Tensor) else torch.from_numpy(np.asarray(index))
    if not len(rows):
        return torch.empty(0, dtype=torch.int64)
    return rows if rows.dtype in (torch.bool, torch.int64) else rows.long()


def take(interaction: Interaction, index: object) -> Interaction:
    """``interaction[index]`` without RecBole's detour of arrays through a Python list."""
    if isinstance(interaction, SequenceInteraction):
        return interaction.batch(index)
    if isinstance(index, (np.ndarray, Tensor)):
        rows = row_index(index)
        return Interaction({k: v[rows] for k, v in interaction.interaction.items()})
    return interaction[index]


def single_precision(rows: Interaction) -> Interaction:
    """The rows as models read them: exact times, which are float64 to sort by, as float32."""
    for name, column in rows.interaction.items():
        if column.dtype == torch.float64:
            rows.interaction[name] = column.float()
    return rows


class SequenceColumns(MutableMapping[str, Tensor]):
    """Column name -> values of all rows [R, *], gathered on access.

    Args:
        source: the interactions.
        rows: positions of the targets in it, int64 [R]; or as `Runs`, of which they are made when
            somebody asks.
        columns: what there is of each row.
    """

    def __init__(
        self, source: SortedInteractions, rows: Tensor | Runs, columns: Mapping[str, Column]
    ) -> None:
        self.source = source
        self.stretches = rows if isinstance(rows, Runs) else None
        self._rows = None if isinstance(rows, Runs) else rows
        self.columns = dict(columns)
        self._cache: dict[str, Tensor] = {}

    @property
    def rows(self) -> Tensor:
        """Positions of the targets in the source, int64 [R]."""
        if self._rows is None:
            assert self.stretches is not None
            self._rows = self.stretches.rows()
        return self._rows

    @property
    def count(self) -> int:
        """R."""
        return len(self.rows) if self.stretches is None else self.stretches.count

    def runs(self) -> Runs:
        """The targets as stretches of histories."""
        if self.stretches is not None:
            return self.stretches
        return Runs.of(self.rows.numpy(), self.source.position.numpy())

    def __getitem__(self, name: str) -> Tensor:
        column = self.columns[name]
        if isinstance(column, Tensor):
            return column
        if isinstance(column, Target):
            return self.source.column(column, self.rows)
        # Who asks for a whole list column (FEARec does, in a loop) pays for it once.
        if name not in self._cache:
            self._cache[name] = self.source.column(column, self.rows)
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

    def gather(self) -> dict[str, Tensor]:
        """The values of every column."""
        return {
            name: column if isinstance(column, Tensor) else self.source.column(column, self.rows)
            for name, column in self.columns.items()
        }


class SequenceInteraction(Interaction):  # type: ignore[misc]
    """``Interaction`` over lazy columns: RecBole's methods work; rows are chosen without copies.

    ``view[index]`` is again a view; ``view.batch(index)`` is a plain ``Interaction``.
    """

    def __init__(self, columns: SequenceColumns) -> None:
        self.interaction = columns
        self.length = columns.count

    def __getitem__(self, index: object) -> Any:
        if isinstance(index, str):
            return self.interaction[index]
        if isinstance(index, (int, np.integer)):
            row = self.batch([int(index) % max(self.length, 1)])
            return Interaction({k: v[0] for k, v in row.interaction.items()})
        return SequenceInteraction(self.interaction.select(row_index(index)))

    def batch(self, index: object) -> Interaction:
        """Rows as RecBole's own ``Interaction``: the values it would hold, gathered now."""
        return Interaction(self.interaction.select(row_index(index)).gather())

    def _reindex(self, index: object) -> None:
        self.interaction = self.interaction.select(row_index(index))
        self.length = self.interaction.count

    def exact(self, name: str) -> Tensor:
        """A column as rows are put in order by it: float64 where its exact values are kept."""
        column, source = self.interaction.columns[name], self.interaction.source
        if isinstance(column, Target) and column.field in source.exact:
            return source.exact[column.field][self.interaction.rows]
        return self.interaction[name]

    def sort(self, by: str | list[str], ascending: bool | list[bool] = True) -> None:
        """Sort the rows in place."""
        if isinstance(by, str) and by in self and ascending is True and self[by].dim() == 1:
            self._reindex(stable_order(order_key(self, by)))
        else:
            super().sort(by, ascending)

    def add_prefix(self, prefix: str) -> None:
        """Rename every column."""
        old = self.interaction
        columns = {prefix + name: column for name, column in old.columns.items()}
        self.interaction = SequenceColumns(old.source, old.rows, columns)

    def __deepcopy__(self, memo: dict[int, Any]) -> SequenceInteraction:
        old = self.interaction
        columns = {k: v.clone() if isinstance(v, Tensor) else v for k, v in old.columns.items()}
        return SequenceInteraction(SequenceColumns(old.source, old.rows.clone(), columns))

    def __str__(self) -> str:
        one = self.batch(slice(0, 1)).interaction
        lines = [f"The batch_size of interaction: {self.length}"]
        for name, value in one.items():
            shape = torch.Size((self.length, *value.shape[1:]))
            lines.append(f"    {name}, {shape}, {value.device.type}, {value.dtype}")
        return "\n".join([*lines, "\n"])
