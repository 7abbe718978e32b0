"""AlphaRec's map f from the text space to the preference space."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from recbole_llm.features.reduce import whitening
from recbole_llm.models.alpharec.graph import InteractionGraph

SLOPE = 0.01  # of LeakyReLU, torch's and the authors' default
_SPREAD = 0.5  # root mean square entry of whitened vectors


class Whitening(nn.Module):
    """x -> (x - center) M, which evens out the directions of a text space (`whitening`).

    Text vectors have a large common part and few strong directions, so gradient descent on W1 is
    slow along all others. The map behind it can undo M, so that f ranges over the same functions.

    It is part of the map's state: another data set's texts go through the same M.

    Args:
        matrix: text vectors, float [n, D]; rows of zeros have no say.
        power: of `whitening`.
        centred: whether the mean is taken away; not for a map without bias.
    """

    matrix: Tensor  # [D, D]
    center: Tensor  # [D]

    def __init__(self, matrix: np.ndarray, power: float, centred: bool) -> None:
        super().__init__()
        center, square = whitening(matrix, power, centred=centred, spread=_SPREAD)
        dtype = torch.get_default_dtype()
        self.register_buffer("matrix", torch.from_numpy(square).to(dtype))
        self.register_buffer("center", torch.from_numpy(center).to(dtype))


def folded(layer: nn.Linear, whitening: Whitening | None) -> tuple[Tensor, Tensor | None]:
    """Weight and bias that do on raw vectors what `layer` does on whitened ones."""
    if whitening is None:
        return layer.weight, layer.bias
    weight = layer.weight @ whitening.matrix
    return weight, None if layer.bias is None else layer.bias - weight @ whitening.center


class MLPMap(nn.Module):
    """f(x) = W2 LeakyReLU(W1 x + b1) + b2.

    Args:
        in_size: D, of the text vectors.
        hidden_size: the authors take D // 2 (their language model v3).
        out_size: of the preference vectors.
        whitening: applied to x before W1.
    """

    def __init__(
        self, in_size: int, hidden_size: int, out_size: int, whitening: Whitening | None = None
    ) -> None:
        super().__init__()
        self.hidden = nn.Linear(in_size, hidden_size)
        self.out = nn.Linear(hidden_size, out_size)
        self.whitening = whitening

    def forward(self, x: Tensor) -> Tensor:
        """x [*, D] -> [*, out_size]."""
        hidden = F.linear(x, *folded(self.hidden, self.whitening))
        return self.out(F.leaky_relu(hidden, SLOPE))

    def on_graph(self, text: Tensor, graph: InteractionGraph) -> Tensor:
        """Convolution of f(user means) and f(text): text [n, D] -> [N + n, out_size].

        Exact, but in a cheaper order. Means and convolution are linear, so W1 is applied to the
        items before the means are taken (N user texts of D numbers never exist), and the
        convolution goes before or after W2, wherever the vectors are narrower; b2 is then
        weighted by what the convolution makes of a constant.
        """
        weight, bias = folded(self.hidden, self.whitening)
        items = F.linear(text, weight)  # [n, hidden_size]
        assert bias is not None
        nodes = F.leaky_relu(torch.cat([graph.user_means(items), items]) + bias, SLOPE)
        if self.out.in_features >= self.out.out_features:
            return graph.convolve(self.out(nodes))
        vectors = F.linear(graph.convolve(nodes), self.out.weight)
        return vectors + graph.response.unsqueeze(1) * self.out.bias


class LinearMap(nn.Module):
    """f(x) = W x: the paper's probe whether the text space already holds the preferences.

    Args:
        in_size: D, of the text vectors.
        out_size: of the preference vectors.
        whitening: applied to x before W; without a center.
    """

    def __init__(self, in_size: int, out_size: int, whitening: Whitening | None = None) -> None:
        super().__init__()
        self.out = nn.Linear(in_size, out_size, bias=False)
        self.whitening = whitening

    def forward(self, x: Tensor) -> Tensor:
        """x [*, D] -> [*, out_size]."""
        return F.linear(x, *folded(self.out, self.whitening))

    def on_graph(self, text: Tensor, graph: InteractionGraph) -> Tensor:
        """Convolution of f(user means) and f(text): text [n, D] -> [N + n, out_size].

        The convolved text itself is constant and could be kept, but it is D wide and has a row
        for each user: mapping the n items and convolving the narrow result is less work.
        """
        items = self(text)  # [n, out_size]
        return graph.convolve(torch.cat([graph.user_means(items), items]))


def build_map(
    kind: str, text: np.ndarray, out_size: int, hidden_size: int | None, power: float
) -> MLPMap | LinearMap:
    """A map for text vectors.

    Args:
        kind: mlp or linear.
        text: [n, D]; row 0 is padding.
        out_size: of the preference vectors.
        hidden_size: of the mlp; None: D // 2.
        power: of `Whitening`; 0: none.
    """
    size = text.shape[1]
    space = Whitening(text, power, centred=kind == "mlp") if power else None
    if kind == "linear":
        return LinearMap(size, out_size, space)
    return MLPMap(size, hidden_size or max(size // 2, 1), out_size, space)
