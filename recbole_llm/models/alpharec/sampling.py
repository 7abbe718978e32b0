"""Uniform draws of negatives and of users' positives, vectorised and on the model's device."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from recbole_llm.models.alpharec.graph import InteractionGraph


class PairSampler(nn.Module):
    """Draws from and around the pairs of a graph.

    Args:
        graph: its users' items are never negatives.
    """

    gap_keys: Tensor  # int [m]
    starts: Tensor  # int [N]
    degrees: Tensor  # int [N]
    items: Tensor  # int [m]
    active: Tensor  # int [*], users with at least one item

    def __init__(self, graph: InteractionGraph) -> None:
        super().__init__()
        self.n_items = graph.n_items
        degrees, starts, items = graph.user_degrees, graph.user_starts, graph.user_items
        self.full = int((degrees >= self.n_items - 1).sum())  # users with every item
        users = torch.repeat_interleave(torch.arange(len(degrees)), degrees)  # [m]
        rank = torch.arange(len(items)) - starts[users]  # of an item among its user's items
        # How many free items precede each taken one (ids start at 1): sorted within a user.
        self.register_buffer("gap_keys", users * self.n_items + items - 1 - rank, False)
        self.register_buffer("starts", starts.clone(), False)
        self.register_buffer("degrees", degrees.clone(), False)
        self.register_buffer("items", items.clone(), False)
        self.register_buffer("active", degrees.nonzero().squeeze(1), False)

    def negatives(self, users: Tensor, k: int) -> Tensor:
        """Items that a user has not, uniform and independent, as RecBole's sampler draws them.

        The r-th free item is found by bisection, without rejection.

        Args:
            users: int [B].
            k: draws a user.

        Returns:
            int [B, k].

        Raises:
            ValueError: a user has every item, so that no negative is left.
        """
        if self.full:
            raise ValueError(
                f"{self.full} users have every item in the training data, so no negatives are "
                f"left for them; filter them out with user_inter_num_interval"
            )
        users = users.unsqueeze(1)  # [B, 1]
        free = self.n_items - 1 - self.degrees[users]
        rank = (torch.rand(len(users), k, device=users.device, dtype=torch.float64) * free).long()
        before = torch.searchsorted(self.gap_keys, users * self.n_items + rank, right=True)
        return 1 + rank + before - self.starts[users]

    def pairs(self, count: int) -> tuple[Tensor, Tensor]:
        """Users drawn uniformly among those with items, and one of each one's items.

        Returns:
            users int [count], items int [count].
        """
        device = self.items.device
        users = self.active[torch.randint(len(self.active), (count,), device=device)]
        chosen = (
            torch.rand(count, device=device, dtype=torch.float64) * self.degrees[users]
        ).long()
        return users, self.items[self.starts[users] + chosen]

    def has(self, users: Tensor, items: Tensor) -> Tensor:
        """Which user has which item: int [B] and int [B] -> bool [B, B], rows are users.

        Reads the users' own items only: the work is that of their number, not of B * B.
        """
        columns, column_of = torch.unique(items, return_inverse=True)  # [C], [B]
        place = self.items.new_full((self.n_items,), -1)
        place[columns] = torch.arange(len(columns), device=items.device)
        degrees = self.degrees[users]
        rows = torch.repeat_interleave(torch.arange(len(users), device=items.device), degrees)
        first = torch.cumsum(degrees, 0) - degrees
        within = torch.arange(len(rows), device=items.device) - first[rows]
        owned = place[self.items[self.starts[users][rows] + within]]
        taken = torch.zeros(len(users), len(columns), dtype=torch.bool, device=items.device)
        taken[rows[owned >= 0], owned[owned >= 0]] = True
        return taken[:, column_of]
