"""Base class of the sequence backbones."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from recbole_llm.layers.dropout import Dropout
from recbole_llm.layers.embedding import map_distinct
from recbole_llm.layers.packing import select_last


class SequenceBackbone(nn.Module):
    """Reads histories of item vectors; see the package for the interface."""

    def output_norm(self) -> nn.Module | None:
        """Return the last norm before the output, which has a weight; None if there is none."""
        return None

    def last(self, emb: Tensor, mask: Tensor) -> Tensor:
        """Return the output at the last real slot: emb [B, L, H], mask bool [B, L] -> [B, H].
        Override it where this costs less than all outputs."""
        return select_last(self(emb, mask), mask)

    def at(self, emb: Tensor, mask: Tensor, wanted: Tensor) -> Tensor:
        """Return the outputs at some real slots, row by row: emb [B, L, H], masks bool [B, L] ->
        [T, H]. Override it where this costs less than all outputs."""
        return self(emb, mask)[wanted]


@torch.no_grad()
def scale_scores(norm: Any, items: Tensor, std: float) -> None:
    """Scale a norm's weight so that scores before training have a given root mean square.

    An untrained backbone's state is close to the normalized vector of its last item. The scores of
    such states vary at least √H times as much as the entries of the item vectors. Far above 1, the
    softmax is confident and wrong. Training then first falls back to popularity, which may take
    more epochs than early stopping waits, and loses what the item vectors say.

    Args:
        norm: last norm before the states, [*, H] -> [*, H]; unchanged if it is not trained or None.
        items: item vectors, [n, H].
        std: root mean square of the scores; 0: the norm stays as it is.
    """
    if norm is None or not norm.weight.requires_grad or std == 0:
        return
    states = norm(items)
    square = ((states.t() @ states) * (items.t() @ items)).sum()  # of the scores of all pairs
    if square > 0:
        norm.weight *= std * len(items) / square.sqrt()


class Expert(nn.Module):
    """An item encoder, and a backbone that reads histories of its vectors.

    Args:
        items: ids int [*] -> item vectors [*, H].
        backbone: (vectors [B, L, H], mask [B, L]) -> states [B, L, H], causal.
        dropout: on the vectors of the history.
    """

    def __init__(self, items: nn.Module, backbone: SequenceBackbone, dropout: float = 0.0) -> None:
        super().__init__()
        self.items, self.backbone, self.dropout = items, backbone, Dropout(dropout)

    def forward(self, item_seq: Tensor, mask: Tensor) -> Tensor:
        """item_seq int [B, L], mask bool [B, L] -> states [B, L, H]."""
        return self.backbone(self._vectors(item_seq), mask)

    def at(self, item_seq: Tensor, mask: Tensor, wanted: Tensor) -> Tensor:
        """States at some slots, row by row: item_seq int [B, L], masks bool [B, L] -> [T, H]."""
        return self.backbone.at(self._vectors(item_seq), mask, wanted)

    def last(self, item_seq: Tensor) -> Tensor:
        """State after the last real item: int [B, L] -> [B, H]."""
        return self.backbone.last(self._vectors(item_seq), item_seq != 0)

    def _vectors(self, item_seq: Tensor) -> Tensor:
        return self.dropout(map_distinct(self.items, item_seq))
