"""AlphaRec's map f from the text space to the preference space."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from recbole_llm.features.tables.reduce import whitening
from recbole_llm.models.alpharec.graph import InteractionGraph

SLOPE = 0.01  # of LeakyReLU, torch's and the authors' default
_SPREAD = 0.5  # root mean square entry of whitened vectors


class TextLinear(nn.Linear):
    """A linear layer after x -> (x - center) M, which evens out a text space (`whitening`).

    Text vectors have a large common part and few strong directions, so gradient descent on the
    weight is slow along all others. The layer can undo M, so it ranges over the same functions as
    before. A layer without bias could not undo a center, so it has none.

    M is part of the state: texts of another data set go through the same M.

    Args:
        text: text vectors, float [n, D]; rows of zeros are ignored.
        size: of the result.
        power: of `whitening`; 0: none.
    """

    matrix: Tensor | None  # [D, D]
    center: Tensor | None  # [D]

    def __init__(self, text: np.ndarray, size: int, power: float, bias: bool = True) -> None:
        super().__init__(text.shape[1], size, bias)
        parts = whitening(text, power, centered=bias, spread=_SPREAD) if power else (None, None)
        for name, part in zip(("center", "matrix"), parts, strict=True):
            buffer = None if part is None else torch.from_numpy(part).to(self.weight.dtype)
            self.register_buffer(name, buffer)

    def folded(self) -> tuple[Tensor, Tensor | None]:
        """Return weight and bias that act on raw vectors as the layer's own on whitened vectors."""
        if self.matrix is None or self.center is None:
            return self.weight, self.bias
        weight = self.weight @ self.matrix
        return weight, None if self.bias is None else self.bias - weight @ self.center

    def forward(self, x: Tensor) -> Tensor:
        """x [*, D] -> [*, size]."""
        device = x.device.type
        if self.matrix is None or self.center is None or not torch.is_autocast_enabled(device):
            return F.linear(x, *self.folded())
        # M enlarges small differences of texts, which half precision would round off before.
        with torch.autocast(device, enabled=False):
            whitened = (x - self.center) @ self.matrix.t()
        return super().forward(whitened)


class MLPMap(nn.Module):
    """f(x) = W2 LeakyReLU(W1 x + b1) + b2.

    Args:
        text: text vectors, [n, D].
        hidden_size: None: D // 2, as in the authors' code (language model v3).
        out_size: of the preference vectors.
        power: of the whitening before W1.
    """

    def __init__(
        self, text: np.ndarray, hidden_size: int | None, out_size: int, power: float
    ) -> None:
        super().__init__()
        self.hidden = TextLinear(text, hidden_size or max(text.shape[1] // 2, 1), power)
        self.out = nn.Linear(self.hidden.out_features, out_size)

    def forward(self, x: Tensor) -> Tensor:
        """x [*, D] -> [*, out_size]."""
        return self.out(F.leaky_relu(self.hidden(x), SLOPE))

    def on_graph(self, text: Tensor, graph: InteractionGraph) -> Tensor:
        """Convolution of f(user means) and f(text): text [n, D] -> [N + n, out_size].

        Exact, but in a cheaper order: means are linear, so W1 is applied to the items before the
        means are taken, and no user texts [N, D] exist. Tensors of width hidden_size are
        overwritten and never concatenated, which saves a fifth of a run's memory.
        """
        items = self.hidden(text)  # [n, hidden_size]
        users = graph.user_means(items)  # [N, hidden_size]; zeros where there are no items
        if count := len(graph.without):  # users without items have W1 0 + b1
            nobodys = self.hidden(text.new_zeros(1, text.shape[1]))
            users.index_add_(0, graph.without, nobodys.expand(count, -1).to(users.dtype))
        hidden = (F.leaky_relu_(users, SLOPE), F.leaky_relu_(items, SLOPE))
        return graph.convolve(torch.cat([self.out(rows) for rows in hidden]))


class LinearMap(TextLinear):
    """f(x) = W x: the paper's probe of whether the text space already holds the preferences."""

    def on_graph(self, text: Tensor, graph: InteractionGraph) -> Tensor:
        """Convolution of f(user means) and f(text): text [n, D] -> [N + n, out_size].

        The convolved text itself is constant and could be kept, but it is D wide and has a row
        for each user: mapping the n items and convolving the narrow result is less work.
        """
        items = self(text)  # [n, out_size]
        return graph.convolve(torch.cat([graph.user_means(items), items]))
