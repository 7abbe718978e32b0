"""Codes of content vectors, with a learned vector for each code."""

from __future__ import annotations

import math

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from recbole_llm.features.tables.table import Matrix, has_vector
from recbole_llm.layers.dropout import Dropout
from recbole_llm.layers.exporting import is_exporting

_VALUES = 256  # of a code at most, so that it fits one byte


class ProductCodes(nn.Module):
    """Sum of the learned vectors of an item's M codes over √M; the codes describe its content.

    The codes are those of product quantization (Jégou et al. 2011): a content vector is split into
    M parts, and a code is the nearest of up to 256 centroids of its part. Items of similar content
    share codes, so each code has a learned vector, as in VQ-Rec (Hou et al. 2023); here the vectors
    start at 0. Items without content have no codes.

    Args:
        content: vectors of the items, [n, D]; row 0 is the padding item.
        size: H, of the result.
        codes: M, at most D.
        dropout: share of an item's codes that a training step leaves out.
    """

    codes: Tensor  # uint8 [n, M]
    known: Tensor  # bool [n]
    centroids: Tensor  # [K, D]; those of the parts side by side

    def __init__(self, content: Tensor, size: int, codes: int, dropout: float) -> None:
        super().__init__()
        if codes > content.shape[1]:
            raise ValueError(
                f"item_codes: {codes} are more than the {content.shape[1]} numbers of a content "
                f"vector"
            )
        self.count = codes
        rows = content.cpu().numpy()
        self.register_buffer("centroids", torch.from_numpy(_centroids(rows, codes)))
        # Stored, since elsewhere rounding may decide a near tie of centroids for another code.
        self.register_buffer("codes", self._nearest(content))
        self.register_buffer("known", torch.from_numpy(has_vector(rows)), persistent=False)
        self.table = nn.Embedding(codes * len(self.centroids), size)
        nn.init.zeros_(self.table.weight)
        self.dropout = Dropout(dropout)

    def forward(self, ids: Tensor) -> Tensor:
        """int [*] -> [*, H]."""
        flat = ids.flatten()
        first = torch.arange(self.count, device=ids.device) * len(self.centroids)
        rows = self.codes[flat].long() + first  # [m, M]
        weights = self.known[flat, None].to(self.table.weight).expand(rows.shape)
        weights = self.dropout(weights)
        if is_exporting():  # exporters turn a bag into a loop
            total = (self.table(rows) * weights[..., None]).sum(1)
        else:
            total = F.embedding_bag(rows, self.table.weight, per_sample_weights=weights, mode="sum")
        return total.view(*ids.shape, -1) / math.sqrt(self.count)

    def append(self, content: Tensor) -> None:
        """Add items that came after training, [m, D]."""
        known = torch.from_numpy(has_vector(content.cpu().numpy()))
        self.codes = torch.cat([self.codes, self._nearest(content).to(self.codes)])
        self.known = torch.cat([self.known, known.to(self.known)])

    def _nearest(self, content: Tensor) -> Tensor:
        """Codes of content vectors: [m, D] -> uint8 [m, M]."""
        parts = zip(
            content.to(self.centroids).tensor_split(self.count, 1),
            self.centroids.tensor_split(self.count, 1),
            strict=True,
        )
        return torch.stack([torch.cdist(a, b).argmin(1).byte() for a, b in parts], 1)


def _centroids(content: Matrix, codes: int) -> Matrix:
    """Centroids of each part of the vectors, side by side: [n, D] -> [K, D]."""
    import faiss

    rows = content[has_vector(content)]
    count = min(_VALUES, len(rows))
    parts = []
    for part in np.array_split(rows, codes, axis=1):
        means = faiss.Kmeans(part.shape[1], count, min_points_per_centroid=1)
        means.train(np.ascontiguousarray(part))
        parts.append(np.asarray(means.centroids))
    return np.concatenate(parts, axis=1)
