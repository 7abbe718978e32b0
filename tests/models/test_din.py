"""DIN is RecBole's, but its attention does not read padding."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from recbole.data.interaction import Interaction
from recbole.utils import get_model as recbole_model

from recbole_llm.core.plugins.loading import get_model
from recbole_llm.testing import CTRModelTests

SEQ = torch.tensor([[3, 5, 1, 2], [4, 0, 2, 0], [7, 0, 0, 0], [0, 0, 0, 0]])
BATCH = Interaction(
    {
        "user_id": torch.tensor([1, 2, 3, 4]),
        "item_id_list": SEQ,
        "item_length": torch.tensor([4, 3, 1, 0]),  # an item may be 0 between others
        "item_id": torch.tensor([2, 3, 4, 5]),
        "label": torch.tensor([1.0, 0.0, 1.0, 0.0]),
    }
)


def pair() -> tuple[Any, Any]:
    """Return RecBole's DIN and ours, built with the same seed, in double precision."""
    battery = CTRModelTests()
    battery.model, battery.config = "DIN", {"mlp_hidden_size": [8, 6]}
    config, _, loaders = battery.make(MAX_ITEM_LIST_LENGTH=SEQ.shape[1])
    models = []
    for cls in (recbole_model("DIN"), get_model("DIN")):
        torch.manual_seed(7)
        models.append(cls(config, loaders[0].dataset).double())
    return models[0], models[1]


def test_loss_gradients_and_predictions_are_recboles() -> None:
    stock, ours = pair()
    assert list(stock.state_dict()) == list(ours.state_dict())
    losses = [model.calculate_loss(BATCH) for model in (stock, ours)]
    torch.testing.assert_close(losses[1], losses[0])
    torch.stack(losses).sum().backward()
    for theirs, mine in zip(stock.parameters(), ours.parameters(), strict=True):
        torch.testing.assert_close(mine.grad, theirs.grad)
    torch.testing.assert_close(ours.eval().predict(BATCH), stock.eval().predict(BATCH))


@pytest.mark.parametrize("length", [4, 3])
def test_attention_reads_no_padding(length: int) -> None:
    """It takes shorter histories than the longest, and its MLP reads a row for each item."""
    _, ours = pair()
    rows: list[int] = []
    ours.attention.att_mlp_layers.register_forward_pre_hook(
        lambda _, inputs: rows.append(inputs[0].numel() // inputs[0].shape[-1])
    )
    lengths = torch.tensor([1, 3, 1, 0])
    ours(BATCH["user_id"], SEQ[:, :length], lengths, BATCH["item_id"])
    assert rows == [int(lengths.sum()) + 1]  # and a spare one
