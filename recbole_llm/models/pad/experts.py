"""The three experts of PAD, each with its own item vectors and its own sequence backbone.

H is the hidden size, D the width of the LLM's item vectors.
"""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor, nn

from recbole_llm.layers.backbones.base import SequenceBackbone
from recbole_llm.layers.embedding import of_distinct


class Expert(nn.Module):
    """Item vectors, and a backbone that reads a history of them.

    Args:
        items: ids int [*] -> item vectors [*, H].
        backbone: (vectors [B, L, H], mask [B, L]) -> states [B, L, H], causal.
    """

    def __init__(self, items: nn.Module, backbone: SequenceBackbone) -> None:
        super().__init__()
        self.items = items
        self.backbone = backbone

    def forward(self, item_seq: Tensor, mask: Tensor) -> Tensor:
        """item_seq int [B, L], mask bool [B, L] -> states [B, L, H]."""
        return self.backbone(of_distinct(self.items, item_seq), mask)

    def at(self, item_seq: Tensor, mask: Tensor, wanted: Tensor) -> Tensor:
        """States at some slots, row by row: int [B, L], bool [B, L] twice -> [T, H]."""
        return self.backbone.at(of_distinct(self.items, item_seq), mask, wanted)

    def last(self, item_seq: Tensor) -> Tensor:
        """State after the last real item: int [B, L] -> [B, H]."""
        return self.backbone.last(of_distinct(self.items, item_seq), item_seq != 0)


class GELUNet(nn.Module):
    """Linear layers of the given widths, each followed by GELU (the erf form), after dropout.

    Args:
        widths: of the input and of every layer.
        dropout: on each layer's input.
    """

    def __init__(self, widths: list[int], dropout: float = 0.0) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for before, after in pairwise(widths):
            linear = nn.Linear(before, after)
            nn.init.xavier_normal_(linear.weight)
            nn.init.zeros_(linear.bias)
            layers += [nn.Dropout(dropout), linear, nn.GELU()]
        self.layers = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        """[*, widths[0]] -> [*, widths[-1]]."""
        return self.layers(x)


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
        """What alignment brings together: ids int [*] -> (e_id [*, H], turn(T) [*, H])."""
        return self.embedding(ids), self.content(ids)


def id_embedding(n_items: int, hidden_size: int, std: float) -> nn.Embedding:
    """A table of normal vectors whose padding row is zero, and stays so in training."""
    table = nn.Embedding(n_items, hidden_size, padding_idx=0)
    nn.init.normal_(table.weight, std=std)
    nn.init.zeros_(table.weight[0])
    return table
