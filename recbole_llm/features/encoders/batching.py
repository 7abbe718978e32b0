"""Cutting token sequences into batches of like length."""

from __future__ import annotations

from collections.abc import Iterator, Sequence


def token_batches(lengths: Sequence[int], budget: int, padded: bool = False) -> Iterator[list[int]]:
    """Indices of sequences, shortest first, in batches of at most `budget` tokens.

    A sequence longer than the budget is a batch of its own.

    Args:
        padded: whether a batch is padded to its longest sequence, and the padding counts too.
    """
    batch: list[int] = []
    total = 0
    for index in sorted(range(len(lengths)), key=lengths.__getitem__):
        length = lengths[index]
        total = (len(batch) + 1) * length if padded else total + length
        if batch and total > budget:
            yield batch
            batch, total = [], length
        batch.append(index)
    if batch:
        yield batch
