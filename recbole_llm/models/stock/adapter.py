"""Base class of the adapters of stock models."""

from __future__ import annotations

from typing import Any

import torch
from recbole.data.dataset import Dataset
from recbole.data.interaction import Interaction
from torch import Tensor

from recbole_llm.core.config import Config
from recbole_llm.core.errors import check_choice
from recbole_llm.models.base import LOSS_TYPES, SequenceTraining

STOCK_LOSSES = ("CE", "BPR")


class StockAdapter(SequenceTraining):
    """A RecBole model with sequence-level training, and with BCE and SSM besides its own losses.

    It comes before the stock class among the bases. Parameters, checkpoints, initial values and
    scores are the stock model's, and so is training on prefix rows with its losses, bit for bit.
    """

    softmax_over_padding = True  # as in the stock models
    forward: Any

    def __init__(self, config: Config, dataset: Dataset) -> None:
        super().__init__(_stock_config(config), dataset)  # type: ignore[call-arg]
        self.loss_type = config["loss_type"]
        self.name_sequence_fields(config)

    @torch.no_grad()
    def score_factors(self, interaction: Interaction) -> tuple[Tensor, Tensor]:
        """States [B, H] and item vectors [n, H], see `FactorModel`."""
        states = self.forward(interaction[self.ITEM_SEQ], interaction[self.ITEM_SEQ_LEN])
        return states, self.item_embedding.weight

    @torch.no_grad()
    def predict(self, interaction: Interaction) -> Tensor:
        """Scores of each row's `item_id`, [B]."""
        items = self.item_embedding(interaction[self.ITEM_ID])
        return (self.states_of_pairs(interaction) * items).sum(-1)

    def calculate_loss(self, interaction: Interaction) -> Tensor:
        """Mean loss over a batch's targets, scalar."""
        if self.POS_ITEM_SEQ in interaction or self.loss_type not in STOCK_LOSSES:
            return super().calculate_loss(interaction)
        return super(SequenceTraining, self).calculate_loss(interaction)  # type: ignore[misc]


def _stock_config(config: Config) -> Any:
    """Return the configuration with a loss that a stock constructor does not refuse."""
    loss_type = config["loss_type"]
    if loss_type in STOCK_LOSSES:
        return config
    check_choice("loss_type", loss_type, LOSS_TYPES)
    return config.with_values(loss_type="BPR")
