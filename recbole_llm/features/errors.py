"""What is wrong with a table or its names, in words."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import islice

_SHOWN = 5  # names listed in a message


class TableError(ValueError):
    """An embedding table that cannot be used as it is."""


def first_names(names: Iterable[object]) -> str:
    """``'a', 'b', 'c', 'd', 'e', …`` for messages."""
    shown = [f"'{name}'" for name in islice(names, _SHOWN + 1)]
    return ", ".join([*shown[:_SHOWN], "…"] if len(shown) > _SHOWN else shown)
