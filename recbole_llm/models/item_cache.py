"""Item vectors that a model computes once for an evaluation."""

from __future__ import annotations

from typing import Any, Self

from torch import Tensor


class ItemCache:
    """Keeps the vectors of all items in eval mode; comes first among the bases."""

    _cached_items: Tensor | None = None

    def train(self, mode: bool = True) -> Self:
        self._cached_items = None
        return super().train(mode)  # type: ignore[misc]

    def load_state_dict(self, *args: Any, **kwargs: Any) -> Any:
        self._cached_items = None
        return super().load_state_dict(*args, **kwargs)  # type: ignore[misc]
