"""SASRec and GRU4Rec have RecBole's parameters and scores, but train at every position."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from recbole.data.interaction import Interaction
from recbole.utils import get_model as recbole_model
from torch import Tensor

from recbole_llm import testing
from recbole_llm.core.config import Config
from recbole_llm.core.plugins.loading import get_model
from recbole_llm.steps import build_model, build_trainer, load_data

ITEMS, LENGTH = 40, 7
DATASET = SimpleNamespace(num=lambda field: ITEMS)
MODELS = ["SASRec", "GRU4Rec"]


def pair(name: str, **changes: Any) -> tuple[Any, Any]:
    """Return the stock model and ours, built with the same seed."""
    settings = {"MAX_ITEM_LIST_LENGTH": LENGTH, "use_gpu": False, **changes}
    config = Config(name, "ml-100k", config_dict=settings)
    models = []
    for cls in (recbole_model(name), get_model(name)):
        torch.manual_seed(7)
        models.append(cls(config, DATASET))
    return models[0], models[1]


def batch(seed: int = 1) -> Interaction:
    generator = torch.Generator().manual_seed(seed)
    lengths = torch.tensor([LENGTH, 1, 3, 5])
    real = torch.arange(LENGTH) < lengths.unsqueeze(1)
    draw = lambda *shape: torch.randint(1, ITEMS, shape, generator=generator)  # noqa: E731
    return Interaction(
        {
            "item_id_list": draw(4, LENGTH) * real,
            "item_length": lengths,
            "item_id": draw(4),
            "neg_item_id": draw(4),
        }
    )


def prefixes(rows: Interaction, targets: Tensor) -> Interaction:
    """Return the prefix rows of a sequence batch, one for each target."""
    items = rows["item_id_list"]
    places = targets.nonzero()
    lists = torch.stack([items[b] * (torch.arange(LENGTH) <= t) for b, t in places])
    chosen = targets[targets != 0]
    return Interaction({"item_id_list": lists, "item_length": places[:, 1] + 1, "item_id": chosen})


@pytest.mark.parametrize("name", MODELS)
def test_same_parameters_same_scores(name: str) -> None:
    stock, ours = pair(name)
    state = stock.state_dict()
    assert list(state) == list(ours.state_dict())
    assert all(torch.equal(value, ours.state_dict()[key]) for key, value in state.items())
    torch.nn.init.normal_(stock.item_embedding.weight)
    ours.load_state_dict(stock.state_dict())
    stock.eval(), ours.eval()
    for method in ("predict", "full_sort_predict"):
        theirs, scores = getattr(stock, method)(batch()), getattr(ours, method)(batch())
        torch.testing.assert_close(scores, theirs, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("loss_type", ["CE", "BPR"])
def test_prefix_rows_train_as_stock(name: str, loss_type: str) -> None:
    losses, gradients = [], []
    for model in pair(name, loss_type=loss_type):
        torch.manual_seed(3)
        loss = model.train().calculate_loss(batch())
        loss.backward()
        losses.append(loss.item())
        gradients.append([p.grad for p in model.parameters()])
    assert losses[0] == losses[1]
    assert all(torch.equal(a, b) for a, b in zip(*gradients, strict=True))


@pytest.mark.parametrize("name", MODELS)
def test_a_sequence_row_is_worth_its_prefixes(name: str) -> None:
    """Without dropout, loss and gradients equal those of the stock model over the prefix rows."""
    off = {"hidden_dropout_prob": 0.0, "attn_dropout_prob": 0.0, "dropout_prob": 0.0}
    known = off if name == "GRU4Rec" else {k: v for k, v in off.items() if k != "dropout_prob"}
    stock, ours = (model.double().train() for model in pair(name, **known))
    rows = batch()
    targets = torch.randint(1, ITEMS, (4, LENGTH)) * (rows["item_id_list"] != 0)
    targets[0, :3] = 0  # context only
    theirs = stock.calculate_loss(prefixes(rows, targets))
    loss = ours.calculate_loss(Interaction({**rows.interaction, "pos_item_id_list": targets}))
    torch.testing.assert_close(loss, theirs)
    theirs.backward(), loss.backward()
    for (key, a), b in zip(stock.named_parameters(), ours.parameters(), strict=True):
        torch.testing.assert_close(b.grad, a.grad, msg=lambda text, key=key: f"{key}: {text}")


@pytest.mark.parametrize("name", MODELS)
def test_sequence_rows_with_negatives(name: str) -> None:
    _, ours = pair(name, loss_type="BPR")
    rows, targets = batch(), torch.randint(1, ITEMS, (4, LENGTH))
    targets = targets * (rows["item_id_list"] != 0)
    negatives = torch.randint(1, ITEMS, (4, LENGTH, 2))
    lists = {"pos_item_id_list": targets, "neg_item_id_list": negatives}
    ours.eval()
    loss = ours.calculate_loss(Interaction({**rows.interaction, **lists}))
    states = ours.user_states(rows["item_id_list"], rows["item_id_list"] != 0)
    table = ours.item_embedding.weight
    pos = (states * table[targets]).sum(-1, keepdim=True)
    neg = (states.unsqueeze(2) * table[negatives]).sum(-1)
    expected = F.softplus(neg - pos)[targets != 0].mean()
    torch.testing.assert_close(loss, expected)


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("loss_type", ["BCE", "SSM"])
def test_losses_that_stock_lacks(name: str, loss_type: str) -> None:
    settings = {"MAX_ITEM_LIST_LENGTH": LENGTH, "use_gpu": False, "loss_type": loss_type}
    config = Config(name, "ml-100k", config_dict=settings)
    torch.manual_seed(7)
    ours = get_model(name)(config, DATASET).eval()
    assert config["loss_type"] == ours.loss_type == loss_type
    assert torch.equal(ours.item_embedding.weight, pair(name)[1].item_embedding.weight)
    states, table = ours(batch()["item_id_list"], batch()["item_length"]), ours.item_vectors()
    pos = (states * table[batch()["item_id"]]).sum(1)
    neg = (states * table[batch()["neg_item_id"]]).sum(1)
    if loss_type == "BCE":
        expected = F.softplus(-pos).mean() + F.softplus(neg).mean()
    else:
        expected = F.softplus(neg - pos).mean()  # a softmax over two
    torch.testing.assert_close(ours.calculate_loss(batch()), expected)


def test_unknown_losses_are_named() -> None:
    with pytest.raises(
        ValueError, match="loss_type 'XE' is unknown; choose from CE, BCE, BPR, SSM"
    ):
        get_model("SASRec")(
            {**Config("SASRec", "ml-100k").final_config_dict, "loss_type": "XE"}, DATASET
        )


@pytest.mark.parametrize("name", MODELS)
def test_sequence_level_is_the_default(name: str) -> None:
    assert Config(name, "ml-100k")["train_level"] == "sequence"
    config = Config(name, "ml-100k", config_dict={"train_level": "prefix"})
    assert config["train_level"] == "prefix"


@pytest.mark.parametrize("batch_size", [1, 7, 2048])
def test_pop_counts_every_training_interaction_and_nothing_else(batch_size: int) -> None:
    testing.write_tiny_dataset("dataset", "tiny")
    config = Config(
        "Pop", "tiny", config_dict={"train_batch_size": batch_size, "data_path": "dataset"}
    )
    _, train, *_ = load_data(config)
    model = build_model(config, train.dataset)
    build_trainer(config, model).fit(train, saved=False, verbose=False)
    items = train.dataset.inter_feat["item_id"]
    expected = torch.bincount(items, minlength=train.dataset.item_num)
    assert torch.equal(model.item_cnt[:, 0], expected) and expected.max() > 1
    every = Interaction({"user_id": torch.tensor([1])})
    assert torch.equal(model.full_sort_predict(every), expected / expected.max().double())
