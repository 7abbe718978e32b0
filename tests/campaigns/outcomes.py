"""What became of the cases of a campaign."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass
class Outcome:
    """What became of a case; `faults` is empty where it is as it should be."""

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
