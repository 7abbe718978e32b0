"""GRU4Rec backbone."""

from __future__ import annotations

from torch import Tensor, nn

from recbole_llm.layers.backbones.base import SequenceBackbone
from recbole_llm.layers.dropout import Dropout
from recbole_llm.layers.packing import run_left_aligned


class GRU4RecBackbone(SequenceBackbone):
    """GRU over item vectors (Tan et al. 2016, as in RecBole's GRU4Rec: no biases, a dense output).

    Args:
        hidden_size: H, of inputs and outputs.
        max_length: unused; every backbone takes it.
        gru_hidden_size: width of the GRU; None: 2 H, RecBole's ratio.
        hidden_dropout_prob: on the inputs.
    """

    def __init__(
        self,
        hidden_size: int,
        max_length: int,
        *,
        n_layers: int = 1,
        gru_hidden_size: int | None = None,
        hidden_dropout_prob: float = 0.3,
    ) -> None:
        super().__init__()
        width = gru_hidden_size or 2 * hidden_size
        self.dropout = Dropout(hidden_dropout_prob)
        self.gru = nn.GRU(hidden_size, width, n_layers, bias=False, batch_first=True)
        self.dense = nn.Linear(width, hidden_size)
        for weight in self.gru.parameters():
            nn.init.xavier_uniform_(weight)

    def forward(self, emb: Tensor, mask: Tensor) -> Tensor:
        """emb [B, L, H], mask bool [B, L] (True = real) -> [B, L, H]."""
        return run_left_aligned(self._run, emb, mask)

    def _run(self, emb: Tensor) -> Tensor:
        states, _ = self.gru(self.dropout(emb))
        return self.dense(states)
