"""A cache of item vectors that a model computes once per evaluation."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Self

from torch import Tensor


class ItemCache:
    """Keeps the vectors of all items in eval mode; must come first among the bases."""

    training: bool
    n_items: int
    _cached_items: Mapping[str, Tensor] = {}

    def cached_items(self, compute: Callable[[], Tensor], name: str = "items") -> Tensor:
        """Return what `compute` returns, such as item vectors [n, D]; in eval mode cache it."""
        if self.training:
            return compute()
        if name not in self._cached_items:
            self._cached_items = {**self._cached_items, name: compute().detach()}
        return self._cached_items[name]

    def forget_cached_items(self) -> None:
        """Clear the cache, since something that the vectors depend on has changed."""
        self._cached_items = {}

    def items_added(self, count: int) -> None:
        """Register `count` items added after training; call it once the model has their vectors."""
        self.n_items += count
        self.forget_cached_items()

    def train(self, mode: bool = True) -> Self:
        self.forget_cached_items()
        return super().train(mode)  # type: ignore[misc]

    def load_state_dict(self, *args: Any, **kwargs: Any) -> Any:
        self.forget_cached_items()
        return super().load_state_dict(*args, **kwargs)  # type: ignore[misc]
