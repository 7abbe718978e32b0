"""RecBole's LightGCN with a faster evaluation."""

from __future__ import annotations

import torch
from recbole.data.interaction import Interaction
from recbole.model.general_recommender.lightgcn import LightGCN as StockLightGCN
from torch import Tensor

from recbole_llm.data.loading.ranking_step import FactorModel


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
