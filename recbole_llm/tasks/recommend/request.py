"""A request for recommendations: in external ids, and in the model's own."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from pandas import Series

from recbole_llm.core.arrays import BoolArray, IntArray

NEW_USER = ""  # how the results name a user given by items or by a query alone
Histories: TypeAlias = "Mapping[Any, Iterable[Any]] | Series[Any]"


@dataclass(frozen=True)
class Request:
    """The arguments of `recommend` besides the model; they are explained there."""

    users: str | Iterable[Any] | None = None
    items: Iterable[Any] | None = None
    histories: Histories | None = None
    query: str | None = None
    query_weight: float | None = None
    k: int = 10
    mask_history: bool = True
    candidates: Iterable[Any] | None = None
    exclude: Iterable[Any] | None = None
    where: str | None = None

    def check(self) -> None:
        """Raise ValueError for a request that is unclear, whatever the model."""
        ways = [way for way in (self.users, self.items, self.histories) if way is not None]
        if len(ways) > 1:
            raise ValueError("give one of users, items (a new user's history) and histories")
        if not ways and self.query is None:
            raise ValueError("say for whom: users (ids, or 'all'), items, histories, or a query")
        if self.query is None and self.query_weight is not None:
            raise ValueError("query_weight: there is no query to weigh")
        if self.histories is not None:
            _check_histories(self.histories)
        if isinstance(self.k, bool) or not isinstance(self.k, (int, np.integer)) or self.k < 1:
            raise ValueError(f"k: expected a positive int, got {self.k!r}")


def _check_histories(histories: object) -> None:
    if not isinstance(histories, (Mapping, Series)):
        raise ValueError(f"histories: expected {{name: items}}, got {histories!r}")
    if not len(histories):
        raise ValueError("histories: no user given")
    if len({str(name) for name, _ in histories.items()}) < len(histories):
        raise ValueError("histories: two names are the same as texts, such as 1 and '1'")
    for name, items in histories.items():
        if isinstance(items, str) or not isinstance(items, Iterable):
            raise ValueError(f"histories: of '{name}' expected a list of items, got {items!r}")


@dataclass(frozen=True)
class ResolvedRequest:
    """A request in the model's internal ids."""

    known_users: IntArray | None
    new_users: Mapping[str, IntArray]  # if known_users is None: {name: items, oldest first}
    query: str | None
    query_weight: float | None
    allowed_items: BoolArray  # [n]
    k: int
    mask_history: bool

    @property
    def n_users(self) -> int:
        """How many users are asked for."""
        return len(self.new_users if self.known_users is None else self.known_users)
