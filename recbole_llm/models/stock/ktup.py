"""RecBole's KTUP with scores that do not change from one scoring to the next."""

from __future__ import annotations

from recbole.model.knowledge_aware_recommender.ktup import KTUP as StockKTUP
from torch import Tensor


class KTUP(StockKTUP):  # type: ignore[misc]
    """The stock model, but it takes the likeliest preference outside of training. The stock model
    draws one for each score, so that a user's list depends on the other users in the batch."""

    def st_gumbel_softmax(self, logits: Tensor, temperature: float = 1.0) -> Tensor:
        """Return one preference per row as a one-hot vector: [..., P] -> [..., P]."""
        if self.training:
            return super().st_gumbel_softmax(logits, temperature)
        return self.convert_to_one_hot(logits.argmax(-1), logits.shape[-1]).to(logits.dtype)
