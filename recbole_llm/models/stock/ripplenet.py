"""RecBole's RippleNet for splits in which some users have no training interactions."""

from __future__ import annotations

from typing import Any

from recbole.model.knowledge_aware_recommender.ripplenet import RippleNet as StockRippleNet


class RippleNet(StockRippleNet):  # type: ignore[misc]
    """The stock model, but users without training interactions (`eval_args`: TS, or ratios of all
    rows) get the padding memory of users without facts. The stock model raises KeyError there."""

    n_users: int
    user_dict: dict[int, list[int]]

    def _build_ripple_set(self) -> Any:
        for user in range(1, self.n_users):
            self.user_dict.setdefault(user, [])
        return super()._build_ripple_set()
