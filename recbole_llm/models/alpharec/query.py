"""Text queries for a map that was trained on item texts."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

_TAU = 0.05  # temperature of the weights of a query's nearest items
_ROUNDING = 1e-6  # cosines that deviate less are equal up to rounding


def query_from_nearest_texts(query: Tensor, texts: Tensor, neighbors: int) -> Tensor:
    """A query as the weighted mean of the item texts nearest to it.

    The map was trained on item texts and their means. A query's own vector differs from all of
    them in directions that say little about what the query asks for; the mean does not.

    Args:
        query: [D].
        texts: text vectors of the items and the padding, [n, D].
        neighbors: number of items in the mean; 0: the query stays as it is.

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
    """Mix scores with the similarity of items' texts to a query.

    The similarity is first rescaled to the mean and standard deviation of each user's scores.

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
