"""Retrieval-augmented self-distillation: a user's state follows those of similar users."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from recbole_llm.core.arrays import IntArray

USERS_AT_ONCE = 256  # teachers whose histories are encoded together


class Histories(nn.Module):
    """Training histories of all users in O(N) memory.

    Args:
        users, items: int [N] each, sorted by user, then time (`training_interactions`).
        n_users: user ids are below it.
    """

    items: Tensor  # int [N]
    starts: Tensor  # int [n_users + 1]

    def __init__(self, users: IntArray, items: IntArray, n_users: int) -> None:
        super().__init__()
        starts = np.searchsorted(users, np.arange(n_users + 1))
        self.register_buffer("items", torch.from_numpy(items), persistent=False)
        self.register_buffer("starts", torch.from_numpy(starts), persistent=False)

    @property
    def lengths(self) -> Tensor:
        """Training interactions of each user, int [n_users]."""
        return self.starts.diff()

    def last(self, users: Tensor) -> Tensor:
        """Return each user's last item, int [B] -> [B]; only for users with a history."""
        return self.items[self.starts[users + 1] - 1]

    def before_last(self, users: Tensor, max_length: int) -> Tensor:
        """Return each user's last items before the very last one, at most `max_length`: [B] ->
        [B, l], right-padded."""
        end = self.starts[users + 1] - 1
        real = (end - self.starts[users]).clamp(0, max_length)  # [B]
        slots = torch.arange(int(real.max()), device=users.device)
        index = (end - real).unsqueeze(1) + slots
        inside = slots < real.unsqueeze(1)
        return torch.where(inside, self.items[torch.where(inside, index, 0)], 0)


class SelfDistillation(nn.Module):
    """kd = mean (F_u - mean of F_v over the similar users v, detached)^2.

    F_u is the state at u's last training position: the one that predicts u's last training item.

    Args:
        neighbors: similar users, int [n_users, N]; -1 = none.
        size: S, length of a state.
        max_length: items of a history that a teacher reads.
        teacher: "exact" encodes the similar users' histories with the present weights, each
            distinct user of a batch once (the authors' way); "bank" takes the states that those
            users had when they were last trained on, at no cost and O(n_users S) memory.
    """

    neighbors: Tensor
    bank: Tensor
    filled: Tensor

    def __init__(
        self,
        histories: Histories,
        neighbors: np.ndarray[tuple[int, int], np.dtype[np.int32]],
        size: int,
        max_length: int,
        teacher: str,
    ) -> None:
        super().__init__()
        self.histories = histories
        self.max_length = max_length
        rows = len(neighbors) if teacher == "bank" else 0
        self.register_buffer("neighbors", torch.from_numpy(neighbors), persistent=False)
        self.register_buffer("bank", torch.zeros(rows, size), persistent=False)
        self.register_buffer("filled", torch.zeros(rows, dtype=torch.bool), persistent=False)

    def is_history_end(self, users: Tensor, item_seq: Tensor, targets: Tensor) -> Tensor:
        """Return whether each row is the end of its user's training history, bool [B].

        Args:
            users: int [B].
            item_seq: right-padded inputs, int [B, L].
            targets: the item after the last input, int [B].
        """
        is_last = self.histories.last(users) == targets
        expected = self.histories.before_last(users, self.max_length)
        width = max(expected.shape[1], item_seq.shape[1])
        padded = (F.pad(items, (0, width - items.shape[1])) for items in (expected, item_seq))
        return is_last & torch.eq(*padded).all(1)

    def forward(self, states: Tensor, users: Tensor, encode: Callable[[Tensor], Tensor]) -> Tensor:
        """Return kd of some users, scalar.

        Args:
            states: their last states, [B, S].
            users: int [B].
            encode: last states of right-padded rows, int [B, L] -> [B, S].
        """
        similar, present = self._look_up_similar(users)
        known = present.any(1)  # [B]
        loss = states.new_zeros(())
        if bool(known.any()):
            teachers = self._mean_states(similar[known], present[known], encode)
            # In half precision the small differences, and gradients, would be rounding errors.
            wide = torch.promote_types(states.dtype, torch.float32)
            loss = (states[known].to(wide) - teachers.to(wide)).square().mean()
        if len(self.bank):
            self.bank[users] = states.detach().to(self.bank.dtype)
            self.filled[users] = True
        return loss

    def _look_up_similar(self, users: Tensor) -> tuple[Tensor, Tensor]:
        """Return each user's similar users and which of them exist (and have a state), [B, N]."""
        similar = self.neighbors[users].long()
        present = similar >= 0
        if len(self.bank):
            present &= self.filled[similar.clamp(min=0)]
        return similar, present

    @torch.no_grad()
    def _mean_states(
        self, similar: Tensor, present: Tensor, encode: Callable[[Tensor], Tensor]
    ) -> Tensor:
        """Mean state of each row's present users: int [B, N], bool [B, N] -> [B, S]."""
        distinct, where = torch.unique(similar[present], return_inverse=True)
        table = self._last_states(distinct, encode)  # [U, S]
        count = present.sum(1)
        rows = torch.arange(len(similar), device=similar.device).repeat_interleave(count)
        total = table.new_zeros(len(similar), table.shape[1]).index_add_(0, rows, table[where])
        return total / count.unsqueeze(1)

    def _last_states(self, users: Tensor, encode: Callable[[Tensor], Tensor]) -> Tensor:
        """Last states of distinct users, int [U] -> [U, S]."""
        if len(self.bank):
            return self.bank[users]
        # Histories of similar length go together, so that little padding is computed.
        order = self.histories.lengths[users].argsort()
        parts = torch.split(users[order], USERS_AT_ONCE)
        histories = (self.histories.before_last(part, self.max_length) for part in parts)
        return torch.cat([encode(history) for history in histories])[order.argsort()]
