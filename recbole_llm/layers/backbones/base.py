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
        """The norm that states come out of, with a weight; None: there is none."""
        return None

    def last(self, emb: Tensor, mask: Tensor) -> Tensor:
        """Output at the last real slot alone: emb [B, L, H], mask bool [B, L] -> [B, H]; to be
        overridden where it costs less than all of them."""
        return select_last(self(emb, mask), mask)

    def at(self, emb: Tensor, mask: Tensor, wanted: Tensor) -> Tensor:
        """Outputs at some of the real slots, row by row: emb [B, L, H], masks bool [B, L] ->
        [T, H]; to be overridden where they cost less than all of them."""
        return self(emb, mask)[wanted]


@torch.no_grad()
def scale_scores(norm: Any, items: Tensor, std: float) -> None:
    """Scale a norm such that scores have a root mean square before training.

    An untrained backbone's state is close to the norm of its last item. The scores of such states
    vary by √H times what the items' numbers do, and more. Far above 1 the softmax is sure and
    wrong: training first goes back to what is popular, which may take more epochs than early
    stopping waits, and forgets what the item vectors say.

    Args:
        norm: which states come out of, [*, H] -> [*, H]; None, or one that is not trained, stays as
            it is.
        items: item vectors, [n, H].
        std: of the scores about zero; 0: the norm stays as it is.
    """
    if norm is None or not norm.weight.requires_grad or std == 0:
        return
    states = norm(items)
    square = ((states.t() @ states) * (items.t() @ items)).sum()  # of all pairs' scores
    if square > 0:
        norm.weight *= std * len(items) / square.sqrt()


class Expert(nn.Module):
    """Item vectors, and a backbone that reads a history of them.

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
        """States at some slots, row by row: int [B, L], bool [B, L] twice -> [T, H]."""
        return self.backbone.at(self._vectors(item_seq), mask, wanted)

    def last(self, item_seq: Tensor) -> Tensor:
        """State after the last real item: int [B, L] -> [B, H]."""
        return self.backbone.last(self._vectors(item_seq), item_seq != 0)

    def _vectors(self, item_seq: Tensor) -> Tensor:
        return self.dropout(map_distinct(self.items, item_seq))
