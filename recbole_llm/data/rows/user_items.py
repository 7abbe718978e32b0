"""Items of each user: one sorted array in place of RecBole's sets and tensors."""

from __future__ import annotations

from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor

from recbole_llm.core.arrays import BoolArray, IntArray
from recbole_llm.data.rows.split import ranges


class UserItems:
    """Items of each user; indexed by user as RecBole's arrays are.

    Args:
        keys: sorted unique ``user · n_items + item``.
        user_num: number of users, the padding included.
        item_num: n_items, the padding included.
    """

    def __init__(self, keys: IntArray, user_num: int, item_num: int) -> None:
        self.keys, self.user_num, self.item_num = keys, user_num, item_num

    @cached_property
    def starts(self) -> IntArray:
        """Where each user's items begin in `keys`, int [n_users + 1]; the last is len(keys)."""
        return np.searchsorted(self.keys, np.arange(self.user_num + 1) * self.item_num)

    def counts(self) -> IntArray:
        """Number of items of each user, int [n_users]."""
        return np.diff(self.starts)

    def contains(self, users: IntArray, items: IntArray) -> BoolArray:
        """Whether each user has each item, bool [B]."""
        if not len(self.keys):
            return np.zeros(len(users), dtype=np.bool_)
        wanted = users * self.item_num + items
        place = np.minimum(np.searchsorted(self.keys, wanted), len(self.keys) - 1)
        return self.keys[place] == wanted

    def pairs(self, users: IntArray) -> tuple[Tensor, Tensor]:
        """Row (position in `users`) and id of every item of these users, int [P] each."""
        starts = self.starts[users]
        sizes = self.starts[users + 1] - starts
        rows = np.repeat(np.arange(len(users)), sizes)
        items = self.keys[ranges(starts, sizes)] % self.item_num
        return torch.from_numpy(rows), torch.from_numpy(items)

    def __getitem__(self, users: Any) -> Any:
        if np.ndim(users):
            return [self[user] for user in users]
        own = self.keys[self.starts[users] : self.starts[users + 1]]
        return torch.from_numpy(own % self.item_num)
