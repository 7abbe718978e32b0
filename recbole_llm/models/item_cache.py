"""Item vectors that a model computes once for an evaluation."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Self

from torch import Tensor


class ItemCache:
    """Keeps the vectors of all items in eval mode; comes first among the bases."""

    training: bool
    n_items: int
    _cached_items: Tensor | None = None

    def cached_items(self, compute: Callable[[], Tensor]) -> Tensor:
        """Vectors of all items [n, D], which `compute` gives; kept while in eval mode."""
        if self.training:
            return compute()
        if self._cached_items is None:
            # Detached: a parameter assigned here would be registered as one of the model.
            self._cached_items = compute().detach()
        return self._cached_items

    def forget_cached_items(self) -> None:
        """Have the vectors computed anew: something that they depend on has changed."""
        self._cached_items = None

    def items_added(self, count: int) -> None:
        """Count items that came after training; to be called once the model has their vectors."""
        self.n_items += count
        self.forget_cached_items()

    def train(self, mode: bool = True) -> Self:
        self.forget_cached_items()
        return super().train(mode)  # type: ignore[misc]

    def load_state_dict(self, *args: Any, **kwargs: Any) -> Any:
        self.forget_cached_items()
        return super().load_state_dict(*args, **kwargs)  # type: ignore[misc]
