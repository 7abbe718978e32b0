"""Faults in the rows of a file, counted by kind, with their first places."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

_SHOWN = 3  # places of a kind


@dataclass
class Problems:
    """The faults that were found, with their numbers and first places."""

    counts: Counter[str] = field(default_factory=Counter)
    where: dict[str, list[str]] = field(default_factory=dict)

    def add(self, what: str, places: Sequence[object], count: int | None = None) -> None:
        """Count faults of one kind; places are, for example, line numbers or ids."""
        number = len(places) if count is None else count
        if number:
            self.counts[what] += number
            seen = self.where.setdefault(what, [])
            seen += [str(place) for place in places[: _SHOWN - len(seen)]]

    def __iter__(self) -> Iterator[str]:
        for what, count in self.counts.items():
            more = ", …" if count > len(self.where[what]) else ""
            yield f"{what}: {count:,} ({', '.join(self.where[what])}{more})"
