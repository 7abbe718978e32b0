"""RecBole's KTUP with scores that do not change from one scoring to the next."""

from __future__ import annotations

from recbole.model.knowledge_aware_recommender.ktup import KTUP as StockKTUP
from torch import Tensor


class KTUP(StockKTUP):  # type: ignore[misc]
    """Outside of training, a user likes an item for the likeliest preference. The stock model draws
    one anew for each score, so that a user's list depends on who else is asked about."""

    def st_gumbel_softmax(self, logits: Tensor, temperature: float = 1.0) -> Tensor:
        """One preference of each row as a one-hot vector: [..., P] -> [..., P]."""
        if self.training:
            return super().st_gumbel_softmax(logits, temperature)
        return self.convert_to_one_hot(logits.argmax(-1), logits.shape[-1]).to(logits.dtype)
