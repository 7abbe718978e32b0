"""A language model that answers at once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from recbole_llm.models.llmcf import thoughts
from recbole_llm.offline.generators import Generator


class Parrot(Generator):
    """Repeats the end of a prompt after the number of its draw, so that candidates differ."""

    def __init__(self, draw: int) -> None:
        self.draw, self.fingerprint = draw, f"parrot-{draw}"
        self.asked: list[str] = []

    def generate(self, prompts: Sequence[str]) -> Sequence[str]:
        self.asked += prompts
        return [f"Thought {self.draw}. {' '.join(p.split()[-12:])}" for p in prompts]


@pytest.fixture(autouse=True)
def parrots(monkeypatch: pytest.MonkeyPatch) -> list[Parrot]:
    """Replace the generators by parrots; return the parrots made."""
    made: list[Parrot] = []

    def create(config: Any, count: int) -> list[Parrot]:
        made.extend(Parrot(draw) for draw in range(count))
        return made[-count:]

    monkeypatch.setattr(thoughts, "create_generators", create)
    return made
