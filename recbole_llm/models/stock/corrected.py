"""RecBole's models that are corrected (Pop, RippleNet, KTUP) or evaluated faster (LightGCN)."""

from __future__ import annotations

from typing import Any

import torch
from recbole.data.dataset import Dataset
from recbole.data.interaction import Interaction
from recbole.model.general_recommender.lightgcn import LightGCN as StockLightGCN
from recbole.model.general_recommender.pop import Pop as StockPop
from recbole.model.knowledge_aware_recommender.ktup import KTUP as StockKTUP
from recbole.model.knowledge_aware_recommender.ripplenet import RippleNet as StockRippleNet
from torch import Tensor

from recbole_llm.core.config import Config
from recbole_llm.data.loading.ranking_step import FactorModel
from recbole_llm.data.rows.training import item_counts


class Pop(StockPop):  # type: ignore[misc]
    """Ranks items by their number of training interactions.

    The stock model counts an item once per batch, however often the batch has it, and it counts
    drawn negatives as well as positives.
    """

    fake_loss: torch.nn.Parameter  # RecBole's, for the optimizer

    def __init__(self, config: Config, dataset: Dataset) -> None:
        super().__init__(config, dataset)
        counts = torch.from_numpy(item_counts(dataset)).to(self.device)
        self.item_cnt, self.max_cnt = counts[:, None], counts.max()[None]

    def calculate_loss(self, interaction: Interaction) -> Tensor:
        """Zero: nothing is learned."""
        return 0 * self.fake_loss


class LightGCN(FactorModel, StockLightGCN):  # type: ignore[misc]
    """The stock model; the catalogue is scored by `layers/matmul.py`."""

    restore_user_e: Tensor | None
    restore_item_e: Tensor | None

    def forward(self) -> tuple[Tensor, Tensor]:
        """Vectors of all users and items; in float32, since sparse products lack bfloat16."""
        with torch.autocast(self.device.type, enabled=False):
            return super().forward()

    @torch.no_grad()
    def score_factors(self, interaction: Interaction) -> tuple[Tensor, Tensor]:
        """Vectors of users [B, D] and items [n, D], see `FactorModel`."""
        if self.restore_user_e is None or self.restore_item_e is None:
            self.restore_user_e, self.restore_item_e = self.forward()
        return self.restore_user_e[interaction[self.USER_ID]], self.restore_item_e


class RippleNet(StockRippleNet):  # type: ignore[misc]
    """The stock model, but users without training interactions (`eval_args`: TS, or ratios of all
    rows) get the padding memory of users without facts. The stock model raises KeyError there."""

    n_users: int
    user_dict: dict[int, list[int]]

    def _build_ripple_set(self) -> Any:
        for user in range(1, self.n_users):
            self.user_dict.setdefault(user, [])
        return super()._build_ripple_set()


class KTUP(StockKTUP):  # type: ignore[misc]
    """The stock model, but it takes the likeliest preference outside of training. The stock model
    draws one for each score, so that a user's list depends on the other users in the batch."""

    def st_gumbel_softmax(self, logits: Tensor, temperature: float = 1.0) -> Tensor:
        """Return one preference per row as a one-hot vector: [..., P] -> [..., P]."""
        if self.training:
            return super().st_gumbel_softmax(logits, temperature)
        return self.convert_to_one_hot(logits.argmax(-1), logits.shape[-1]).to(logits.dtype)
