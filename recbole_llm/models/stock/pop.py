"""RecBole's Pop with counts that do not depend on the batches."""

from __future__ import annotations

import torch
from recbole.data.dataset import Dataset
from recbole.data.interaction import Interaction
from recbole.model.general_recommender.pop import Pop as StockPop
from torch import Tensor

from recbole_llm.core.config import Config
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
