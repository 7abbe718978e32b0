"""AlphaRec's map f from the text space to the preference space."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from recbole_llm.models.alpharec.graph import InteractionGraph

SLOPE = 0.01  # of LeakyReLU, torch's and the authors' default


class MLPMap(nn.Module):
    """f(x) = W2 LeakyReLU(W1 x + b1) + b2.

    Args:
        in_size: D, of the text vectors.
        hidden_size: the authors take D // 2 (their language model v3).
        out_size: of the preference vectors.
    """

    def __init__(self, in_size: int, hidden_size: int, out_size: int) -> None:
        super().__init__()
        self.hidden = nn.Linear(in_size, hidden_size)
        self.out = nn.Linear(hidden_size, out_size)

    def forward(self, x: Tensor) -> Tensor:
        """x [*, D] -> [*, out_size]."""
        vectors: Tensor = self.out(F.leaky_relu(self.hidden(x), SLOPE))
        return vectors

    def on_graph(self, text: Tensor, graph: InteractionGraph) -> Tensor:
        """Convolution of f(user means) and f(text): text [n, D] -> [N + n, out_size].

        Exact, but in a cheaper order. Means and convolution are linear, so W1 is applied to the
        items before the means are taken (N user texts of D numbers never exist), and the
        convolution goes before or after W2, wherever the vectors are narrower; b2 is then
        weighted by what the convolution makes of a constant.
        """
        items = F.linear(text, self.hidden.weight)  # [n, hidden_size]
        nodes = torch.cat([graph.user_means(items), items]) + self.hidden.bias
        nodes = F.leaky_relu(nodes, SLOPE)
        if self.out.in_features >= self.out.out_features:
            return graph.convolve(self.out(nodes))
        vectors = F.linear(graph.convolve(nodes), self.out.weight)
        return vectors + graph.response.unsqueeze(1) * self.out.bias


class LinearMap(nn.Module):
    """f(x) = W x: the paper's probe whether the text space already holds the preferences.

    Args:
        in_size: D, of the text vectors.
        out_size: of the preference vectors.
    """

    def __init__(self, in_size: int, out_size: int) -> None:
        super().__init__()
        self.out = nn.Linear(in_size, out_size, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """x [*, D] -> [*, out_size]."""
        vectors: Tensor = self.out(x)
        return vectors

    def on_graph(self, text: Tensor, graph: InteractionGraph) -> Tensor:
        """Convolution of f(user means) and f(text): text [n, D] -> [N + n, out_size].

        The convolved text itself is constant and could be kept, but it is D wide and has a row
        for each user: mapping the n items and convolving the narrow result is less work.
        """
        items = self.out(text)  # [n, out_size]
        return graph.convolve(torch.cat([graph.user_means(items), items]))
