"""A query in words beside a map that has learnt from texts of items."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

_TAU = 0.05  # temperature of the weights of a query's nearest items
_ROUNDING = 1e-6  # deviations of cosines below it say nothing


def query_from_nearest_texts(query: Tensor, texts: Tensor, neighbors: int) -> Tensor:
    """A query as the weighted mean of the item texts nearest to it.

    The map has learnt from items' texts and their means. A query's own vector differs from all of
    them in directions that say little of what it asks for; here it is brought among them.

    Args:
        query: [D].
        texts: of the items with the padding, [n, D].
        neighbors: items of the mean; 0: the query stays as it is.

    Returns:
        [D].
    """
    if neighbors == 0:
        return query
    texts = texts[1:]
    cosines = F.normalize(texts, dim=1) @ F.normalize(query, dim=0)
    near = torch.topk(cosines, min(neighbors, len(texts)))
    return torch.softmax(near.values / _TAU, dim=0) @ texts[near.indices]


def mix_with_similarity(scores: Tensor, texts: Tensor, query: Tensor, weight: Tensor) -> Tensor:
    """Scores mixed with the similarity of items' texts to a query.

    The similarity is brought to each user's mean and deviation over the items first.

    Args:
        scores: [B, n].
        texts: [n, D].
        query: [D].
        weight: of the similarity, 0 to 1, [B].

    Returns:
        [B, n].
    """
    similarity = F.normalize(texts, dim=1) @ F.normalize(query, dim=0)  # [n]
    spread, middle = torch.std_mean(similarity[1:], correction=0)
    similarity = (similarity - middle) / spread.clamp(min=_ROUNDING)
    std, mean = torch.std_mean(scores[:, 1:], dim=1, keepdim=True, correction=0)
    return torch.lerp(scores, mean + std * similarity, weight.unsqueeze(1))
