"""Embedding tables that never train."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from recbole_llm.layers.exporting import is_exporting


class FrozenEmbedding(nn.Module):
    """Look-up in a constant table, such as the LLM's vectors of the items.

    The table is a non-persistent buffer: no optimizer, no initialization and no checkpoint
    touches it. A checkpoint keeps `fingerprint` instead, which is compared on loading.

    Args:
        matrix: float [n, D]; row 0 is the padding item.
        fingerprint: names the encoder and prompt that made the table; "" when unknown.
    """

    weight: Tensor

    def __init__(self, matrix: object, fingerprint: str = "") -> None:
        super().__init__()
        weight = torch.as_tensor(matrix)
        if weight.dim() != 2 or not weight.is_floating_point():
            raise ValueError(
                "FrozenEmbedding needs a float matrix [n, D]; "
                f"got {weight.dtype} of shape {tuple(weight.shape)}"
            )
        self.fingerprint = fingerprint
        self.register_buffer("weight", weight.detach(), persistent=False)

    def append(self, rows: Tensor) -> None:
        """Add rows [m, D] at the end of the table."""
        self.weight = torch.cat([self.weight, rows.to(self.weight)])

    @property
    def dimension(self) -> int:
        """D, the length of a vector."""
        return self.weight.shape[1]

    def forward(self, ids: Tensor) -> Tensor:
        """ids int [*] -> vectors [*, D]."""
        try:
            return nn.functional.embedding(ids, self.weight)
        except IndexError:
            raise ValueError(
                f"FrozenEmbedding has {len(self.weight)} rows, so it takes ids below that, and got "
                f"{ids.min()} to {ids.max()}; give it a row for each item, after row 0, which is "
                "the padding's"
            ) from None

    def extra_repr(self) -> str:
        rows, width = self.weight.shape
        return f"{rows}, {width}, fingerprint={self.fingerprint!r}"


def map_distinct(vectors: Callable[[Tensor], Tensor], ids: Tensor) -> Tensor:
    """Return vectors(ids), int [*] -> [*, H], with each distinct id's vector computed once."""
    if is_exporting():  # a graph cannot hold the varying number of distinct ids
        return vectors(ids)
    distinct, which = torch.unique(ids, return_inverse=True)
    return nn.functional.embedding(which, vectors(distinct))


def map_distinct_rows(states: Callable[[Tensor], Tensor], rows: Tensor) -> Tensor:
    """Return states(rows), int [B, L] -> [B, H], with each distinct row's state computed once."""
    new = torch.ones(len(rows), dtype=torch.bool, device=rows.device)
    torch.any(rows[1:] != rows[:-1], dim=1, out=new[1:])  # most equal rows are adjacent
    distinct, which = torch.unique(rows[new], dim=0, return_inverse=True)
    return states(distinct)[which[new.cumsum(0) - 1]]
