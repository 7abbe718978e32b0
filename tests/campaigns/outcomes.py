"""The outcomes of a campaign's cases."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass
class Outcome:
    """The outcome of a case; `faults` is empty if all is as it should be."""

    name: str
    said: str
    faults: list[str]


def report(outcomes: Sequence[Outcome], what: str) -> str:
    """A line per case, and the counts."""
    lines = [
        f"{'BAD ' if o.faults else 'ok  '}{o.name}: {o.said}" + "".join(f" [{f}]" for f in o.faults)
        for o in outcomes
    ]
    bad = sum(bool(o.faults) for o in outcomes)
    return "\n".join([*lines, f"{len(outcomes)} {what}, {bad} not as they should be"])
