"""A table trained by sparse gradients: what a step touches, what is refused, and resuming."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import nn

from recbole_llm.core.config import Config
from recbole_llm.core.processes import distributed
from recbole_llm.quick_start import run_recbole_llm
from recbole_llm.steps import build_model, build_trainer, load_data
from recbole_llm.testing import write_tiny_dataset
from recbole_llm.trainers.optimizers import TableAndRest, sparse_table

SAMPLED = {"distribution": "uniform", "sample_num": 3}
RUN = {
    "data_path": "dataset", "epochs": 2, "train_batch_size": 32,
    "show_progress": False, "MAX_ITEM_LIST_LENGTH": 10, "hidden_dropout_prob": 0.0,
    "attn_dropout_prob": 0.0, "loss_type": "SSM", "train_neg_sample_args": SAMPLED,
}  # fmt: skip
STEP = 0.001  # size of Adam's first step, whatever the gradient


def after_a_step(item_table: str) -> tuple[torch.Tensor, torch.Tensor, set[int]]:
    """SASRec's item table before and after one step, and the items that it read."""
    config = Config("SASRec", "tiny", config_dict={**RUN, "item_table": item_table})
    _, train, _, _ = load_data(config)
    model = build_model(config, train.dataset)
    trainer = build_trainer(config, model)
    before = model.item_embedding.weight.detach().clone()
    batch = next(iter(train))
    model.train()
    model.calculate_loss(batch).backward()
    trainer.optimizer.step()
    fields = ("item_id_list", "pos_item_id_list", "neg_item_id_list")
    read = {int(i) for field in fields for i in batch[field].unique()}
    return before, model.item_embedding.weight.detach(), read - {0}


def test_a_step_touches_the_rows_that_it_read() -> None:
    write_tiny_dataset("dataset", n_items=200)
    before, after, read = after_a_step("sparse")
    moved = {int(i) for i in (after != before).any(1).nonzero()}
    assert moved == read and len(read) < 190
    assert (after - before).abs().max().item() == pytest.approx(STEP, rel=1e-3)
    dense = after_a_step("dense")
    assert dense[2] == read
    torch.testing.assert_close(after, dense[1], atol=5e-5, rtol=0)  # equal except for eps


def test_both_parts_resume_with_their_moments() -> None:
    """A new optimizer that loads the state after the first step takes the same second step."""

    def made(model: Any) -> TableAndRest:
        rest = torch.optim.Adam(model[1].parameters(), 0.1)
        return TableAndRest(rest, model[0].weight, 0.1)

    found = []
    for resumed in (False, True):
        torch.manual_seed(0)
        model = nn.Sequential(nn.Embedding(5, 3, sparse=True), nn.Linear(3, 1))
        optimizer = made(model)
        for number in range(2):
            if number and resumed:
                state = copy.deepcopy(optimizer.state_dict())
                optimizer = made(model)
                optimizer.load_state_dict(state)
            optimizer.zero_grad()
            model(torch.tensor([1, 4])).square().sum().backward()
            optimizer.step()
        found.append([parameter.detach() for parameter in model.parameters()])
    torch.testing.assert_close(found[1], found[0], rtol=0, atol=0)


@pytest.mark.parametrize(("model", "changes", "message"), [
    ("SASRec", {"loss_type": "CE", "train_neg_sample_args": None},
     "loss_type: CE scores every item for every target.*--loss_type=SSM"),
    ("SASRec", {"weight_decay": 0.1}, "weight_decay: needs the gradients of all items"),
    ("SASRec", {"learner": "SGD"}, "learner: with item_table: sparse, the table is trained by"),
    ("LightGCN", {}, "item_table: LightGCN has no sparse item table"),
    ("PAD", {}, "item_table: PAD has no sparse item table"),
])  # fmt: skip
def test_what_touches_all_rows_is_refused(
    model: str, changes: dict[str, Any], message: str
) -> None:
    given = {"item_table": "sparse"} if model == "LightGCN" else {**RUN, "item_table": "sparse"}
    with pytest.raises(ValueError, match=message):
        Config(model, config_dict={**given, **changes})


def test_a_model_without_a_table_is_refused() -> None:
    write_tiny_dataset("dataset")
    config = Config("SASRec", "tiny", config_dict={**RUN, "item_table": "sparse"})
    _, train, _, _ = load_data(config)
    model = build_model(config, train.dataset)
    del model.item_embedding
    with pytest.raises(ValueError, match="item_table: SASRec has no sparse item table"):
        build_trainer(config, model)


def test_several_gpus_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(distributed, "_here", distributed.ProcessRank(0, 0, 2))
    config: Any = {"item_table": "sparse", "device": torch.device("cuda")}
    with pytest.raises(ValueError, match="item_table: NCCL cannot sum the sparse gradients"):
        sparse_table(torch.nn.Module(), config)


@pytest.mark.parametrize("model", ["SASRec", "LLMCFRetrieval"])
def test_a_run_trains_and_saves(model: str) -> None:
    write_tiny_dataset("dataset")
    keys: dict[str, Any] = {"item_table": "sparse"}
    if model != "SASRec":
        keys |= {"encoder": "hash", "thoughts": "item_text"}
    result = run_recbole_llm(model, "tiny", config_dict={**RUN, **keys})
    assert result["test_result"]["recall@10"] > 0
