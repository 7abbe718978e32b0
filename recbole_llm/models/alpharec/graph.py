"""The user-item graph of training interactions, LightGCN's convolution on it, and draws from it."""

from __future__ import annotations

import numpy as np
import torch
from scipy.sparse import csr_matrix
from torch import Tensor, nn

from recbole_llm.core.lines import plural
from recbole_llm.models.alpharec.sparse import linear_operator, weighted_sums


class InteractionGraph(nn.Module):
    """Unique (user, item) pairs, in both directions, as constant buffers.

    N users, n items, m pairs; nodes are users, then items, [N + n]. The mean and the
    neighbor sum of a node without edges are zero.

    Args:
        users, items: internal ids of the interactions, int [*]; repeated pairs count once.
        n_users, n_items: N and n.
        n_layers: K, convolution layers.
    """

    user_starts: Tensor  # int [N]
    user_items: Tensor  # int [m], by user
    item_starts: Tensor  # int [n]
    item_users: Tensor  # int [m], by item
    user_degrees: Tensor  # int [N]
    item_degrees: Tensor  # int [n]
    edge_by_user: Tensor  # 1 / sqrt(d_u d_i), [m], in the order of user_items
    edge_by_item: Tensor  # the same, in the order of item_users
    mean_by_user: Tensor  # 1 / d_u, [m]
    mean_by_item: Tensor  # 1 / d_u, [m]
    gap_keys: Tensor  # for `negatives`, int [m]
    active: Tensor  # int [*], users with at least one item
    without: Tensor  # int [*], users without items

    def __init__(
        self, users: np.ndarray, items: np.ndarray, n_users: int, n_items: int, n_layers: int
    ) -> None:
        super().__init__()
        self.n_users, self.n_items, self.n_layers = n_users, n_items, n_layers
        # Repeated pairs become one entry, whose value is not read.
        by_user = csr_matrix((np.ones(len(users)), (users, items)), (n_users, n_items))
        by_item = csr_matrix(by_user.T)
        # SciPy's degrees have 32 bits, which products of degrees can overflow.
        user_degrees, item_degrees = (
            np.diff(m.indptr).astype(np.int64) for m in (by_user, by_item)
        )
        self._keep("user_starts", by_user.indptr[:-1])
        self._keep("user_items", by_user.indices)
        self._keep("item_starts", by_item.indptr[:-1])
        self._keep("item_users", by_item.indices)
        self._keep("user_degrees", user_degrees)
        self._keep("item_degrees", item_degrees)
        of_edge = np.repeat(user_degrees, user_degrees)  # d_u of each edge, by user
        self._keep("mean_by_user", 1.0 / of_edge)
        self._keep("edge_by_user", 1.0 / np.sqrt(of_edge * item_degrees[by_user.indices]))
        of_edge = user_degrees[by_item.indices]
        self._keep("mean_by_item", 1.0 / of_edge)
        self._keep("edge_by_item", 1.0 / np.sqrt(of_edge * np.repeat(item_degrees, item_degrees)))
        self.full = int((user_degrees >= n_items - 1).sum())  # users with every item
        self._keep("active", user_degrees.nonzero()[0])
        self._keep("without", (user_degrees == 0).nonzero()[0])
        # Number of free items before each taken one (ids start at 1), sorted within a user.
        owner = np.repeat(np.arange(n_users), user_degrees)  # [m]
        rank = np.arange(len(owner)) - by_user.indptr[owner]  # of an item among its user's items
        self._keep("gap_keys", owner * n_items + by_user.indices - 1 - rank)

    def _keep(self, name: str, values: np.ndarray) -> None:
        dtype = torch.get_default_dtype() if values.dtype.kind == "f" else torch.int64
        self.register_buffer(name, torch.as_tensor(values, dtype=dtype), persistent=False)

    def pairs(self) -> tuple[np.ndarray, np.ndarray]:
        """The unique pairs: users and items, int [m] each."""
        users = np.repeat(np.arange(self.n_users), self.user_degrees.cpu().numpy())
        return users, self.user_items.cpu().numpy()

    def user_means(self, x: Tensor) -> Tensor:
        """Mean of each user's items: x [n, D] -> [N, D]."""
        return linear_operator(
            x,
            lambda v: weighted_sums(v, self.user_items, self.user_starts, self.mean_by_user),
            lambda v: weighted_sums(v, self.item_users, self.item_starts, self.mean_by_item),
        )

    def convolve(self, nodes: Tensor) -> Tensor:
        """Mean over k = 0 … K of A^k nodes, A = D^-1/2 (adjacency) D^-1/2: [N + n, D] -> same.

        A sum of powers of a symmetric matrix is its own transpose, so the gradient is the same
        convolution and nothing is kept for it.
        """
        return linear_operator(nodes, self._convolve, self._convolve)

    def _convolve(self, nodes: Tensor) -> Tensor:
        total = layer = nodes.to(self.edge_by_user.dtype)
        for _ in range(self.n_layers):
            layer = self.step(layer)
            total = total + layer
        return total / (self.n_layers + 1)

    def step(self, nodes: Tensor) -> Tensor:
        """Return A nodes, one step of the convolution: [N + n, D] -> [N + n, D]."""
        users, items = nodes[: self.n_users], nodes[self.n_users :]
        to_users = weighted_sums(items, self.user_items, self.user_starts, self.edge_by_user)
        to_items = weighted_sums(users, self.item_users, self.item_starts, self.edge_by_item)
        return torch.cat([to_users, to_items])

    def negatives(self, users: Tensor, k: int) -> Tensor:
        """Draw items that a user does not have, uniformly and independently, as RecBole's sampler.

        The r-th free item is found by bisection, without rejection.

        Args:
            users: int [B].
            k: draws per user.

        Returns:
            int [B, k].

        Raises:
            ValueError: a user has every item, so that no negative is left.
        """
        if self.full:
            raise ValueError(
                f"every item is in the training data of {plural(self.full, 'user')}, for whom no "
                f"negatives are left; leave such users out with user_inter_num_interval"
            )
        users = users.unsqueeze(1)  # [B, 1]
        free = self.n_items - 1 - self.user_degrees[users]
        rank = (torch.rand(len(users), k, device=users.device, dtype=torch.float64) * free).long()
        before = torch.searchsorted(self.gap_keys, users * self.n_items + rank, right=True)
        return 1 + rank + before - self.user_starts[users]

    def draw(self, count: int) -> tuple[Tensor, Tensor]:
        """Draw users uniformly among those with items, and one item of each user.

        Returns:
            users int [count], items int [count].
        """
        device = self.user_items.device
        users = self.active[torch.randint(len(self.active), (count,), device=device)]
        chosen = (
            torch.rand(count, device=device, dtype=torch.float64) * self.user_degrees[users]
        ).long()
        return users, self.user_items[self.user_starts[users] + chosen]

    def has(self, users: Tensor, items: Tensor) -> Tensor:
        """Return which user has which item: int [B] and int [B] -> bool [B, B], rows are users.

        Only the users' own items are read, so the work grows with their number, not with B * B.
        """
        columns, column_of = torch.unique(items, return_inverse=True)  # [C], [B]
        place = self.user_items.new_full((self.n_items,), -1)
        place[columns] = torch.arange(len(columns), device=items.device)
        degrees = self.user_degrees[users]
        rows = torch.repeat_interleave(torch.arange(len(users), device=items.device), degrees)
        first = torch.cumsum(degrees, 0) - degrees
        within = torch.arange(len(rows), device=items.device) - first[rows]
        owned = place[self.user_items[self.user_starts[users][rows] + within]]
        has_item = torch.zeros(len(users), len(columns), dtype=torch.bool, device=items.device)
        has_item[rows[owned >= 0], owned[owned >= 0]] = True
        return has_item[:, column_of]
