"""The item vectors of PAD's three experts.

H is the hidden size, D the width of the LLM's item vectors.
"""

from __future__ import annotations

from itertools import pairwise

import torch
from recbole.model.init import xavier_normal_initialization
from torch import Tensor, nn


def gelu_net(widths: list[int], dropout: float) -> nn.Sequential:
    """Linear layers of the given widths, each after dropout and followed by GELU (erf form)."""
    layers: list[nn.Module] = []
    for before, after in pairwise(widths):
        linear = nn.Linear(before, after)
        xavier_normal_initialization(linear)
        layers += [nn.Dropout(dropout), linear, nn.GELU()]
    return nn.Sequential(*layers)


class AlignedItems(nn.Module):
    """GELU(W [e_id ; turn(T)] + b), the items of the aligned expert.

    Args:
        embedding: the expert's own ID embedding [n, H].
        content: turn(T), ids int [*] -> [*, H].
        fusion: [*, 2H] -> [*, H].
    """

    def __init__(self, embedding: nn.Embedding, content: nn.Module, fusion: nn.Module) -> None:
        super().__init__()
        self.embedding = embedding
        self.content = content
        self.fusion = fusion

    def forward(self, ids: Tensor) -> Tensor:
        """ids int [*] -> [*, H]."""
        return self.fusion(torch.cat(self.sides(ids), dim=-1))

    def sides(self, ids: Tensor) -> tuple[Tensor, Tensor]:
        """The two sides that alignment compares: ids int [*] -> (e_id [*, H], turn(T) [*, H])."""
        return self.embedding(ids), self.content(ids)


def id_embedding(n_items: int, hidden_size: int, std: float) -> nn.Embedding:
    """A table of normal vectors whose padding row is zero, and stays so in training."""
    table = nn.Embedding(n_items, hidden_size, padding_idx=0)
    nn.init.normal_(table.weight, std=std)
    nn.init.zeros_(table.weight[0])
    return table
