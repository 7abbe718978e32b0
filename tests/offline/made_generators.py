"""Generators that answer at once."""

from __future__ import annotations

from collections.abc import Sequence

from recbole_llm.offline.generators import Generator


class Echo(Generator):
    """Repeats its prompts; it can be interrupted after some of them."""

    fingerprint = "echo-1"
    batch_size = 3

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.interrupted_after: int | None = None

    def generate(self, prompts: Sequence[str]) -> Sequence[str]:
        if self.interrupted_after is not None and len(self.asked) >= self.interrupted_after:
            raise KeyboardInterrupt
        self.asked += prompts
        return [f"about\x00 {p}" for p in prompts]


class Priced(Echo):
    """An echo with a cost."""

    def __init__(self, number: int, price: str) -> None:
        super().__init__()
        self.fingerprint, self.price = f"priced-{number}", price

    def cost(self, prompts: Sequence[str]) -> str:
        return f"{len(prompts)} prompts at {self.price}"
