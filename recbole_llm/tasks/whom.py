"""For whom items are recommended."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

NEW_USER = ""  # how the results name a user given by items or by a query alone
Ids = npt.NDArray[np.int64]
Histories = Mapping[str, Sequence[Any]]


@dataclass(frozen=True)
class Wanted:
    """For whom, and what they look for."""

    known: Ids | None  # internal ids of known users
    new: Mapping[str, Ids]  # where none are known: {name: internal ids of items, oldest first}
    query: tuple[str, float | None] | None  # text, and its weight or None

    @property
    def count(self) -> int:
        """Users."""
        return len(self.new if self.known is None else self.known)


def check_whom(
    users: object = None,
    items: object = None,
    histories: object = None,
    query: str | None = None,
    query_weight: float | None = None,
) -> None:
    """Raise ValueError unless it is said in one way for whom items are wanted."""
    ways = [way for way in (users, items, histories) if way is not None]
    if len(ways) > 1:
        raise ValueError("give one of users, items (a new user's history) and histories")
    if not ways and query is None:
        raise ValueError("say for whom: users (ids, or 'all'), items, histories, or a query")
    if query is None and query_weight is not None:
        raise ValueError("query_weight: there is no query to weigh")
