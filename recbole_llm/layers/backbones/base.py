"""What every sequence backbone gives."""

from __future__ import annotations

from torch import Tensor, nn

from recbole_llm.layers.packing import last_of


class SequenceBackbone(nn.Module):
    """Reads histories of item vectors; see the package for the interface."""

    def last(self, emb: Tensor, mask: Tensor) -> Tensor:
        """Output at the last real slot alone: emb [B, L, H], mask bool [B, L] -> [B, H]; to be
        overridden where it costs less than all of them."""
        return last_of(self(emb, mask), mask)

    def at(self, emb: Tensor, mask: Tensor, wanted: Tensor) -> Tensor:
        """Outputs at some of the real slots, row by row: emb [B, L, H], masks bool [B, L] ->
        [T, H]; to be overridden where they cost less than all of them."""
        states: Tensor = self(emb, mask)
        return states[wanted]
