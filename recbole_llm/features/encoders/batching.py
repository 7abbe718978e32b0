"""Grouping token sequences into batches of similar length."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, TypeAlias

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

Message: TypeAlias = Mapping[str, Any]  # a processor's output: input_ids, [1, L], …


def token_batches(lengths: Sequence[int], budget: int, padded: bool = False) -> Iterator[list[int]]:
    """Indices of sequences, shortest first, in batches of at most `budget` tokens.

    A sequence longer than the budget is a batch of its own.

    Args:
        padded: whether a batch is padded to its longest sequence, so that padding counts, too.
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


def message_batches(messages: Iterable[Message], budget: int) -> Iterator[list[Message]]:
    """Batches of consecutive messages for `join_messages`, of at most `budget` tokens including
    padding. A message that is longer, or whose tensors fit no neighbor's, is its own batch."""
    batch: list[Message] = []
    width = 0
    for message in messages:
        length = message["input_ids"].shape[1]
        width = max(width, length)
        full = (len(batch) + 1) * width > budget
        if batch and (full or _shapes_and_types(message) != _shapes_and_types(batch[0])):
            yield batch
            batch, width = [], length
        batch.append(message)
    if batch:
        yield batch


def join_messages(batch: Sequence[Message]) -> Message:
    """Join messages to one input, [B, L]. Tensors by token are padded on the right, so that no real
    token sees the padding or is shifted by it; tensors of pictures are concatenated."""
    if len(batch) == 1:
        return batch[0]
    return {
        name: pad_sequence([message[name][0] for message in batch], batch_first=True)
        if _by_token(value, batch[0])
        else torch.cat([message[name] for message in batch])
        for name, value in batch[0].items()
    }


def _by_token(value: Tensor, message: Message) -> bool:
    return value.shape[:2] == message["input_ids"].shape


def _shapes_and_types(message: Message) -> dict[str, object]:
    """Types and shapes by key, which are equal if the tensors can be joined. A value that is no
    tensor equals no other value."""
    forms: dict[str, object] = {}
    for name, value in message.items():
        if isinstance(value, Tensor):
            by_token = _by_token(value, message)
            forms[name] = value.dtype, by_token, value.shape[2 if by_token else 1 :]
        else:
            forms[name] = object()
    return forms
