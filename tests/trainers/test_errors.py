"""Messages of trainings that fail."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from recbole.model.general_recommender import BPR

from recbole_llm.models.base import SequenceRecommender
from recbole_llm.quick_start import run_recbole_llm
from recbole_llm.trainers.phased import Phase

KEYS = {"epochs": 2, "show_progress": False, "train_batch_size": 256, "learning_rate": 0.01}


def diverging(value: float, at: int) -> type[Any]:
    """A model whose n-th loss is multiplied by a value."""

    class Diverging(BPR):  # type: ignore[misc]
        calls = 0

        def calculate_loss(self, interaction: Any) -> torch.Tensor:
            self.calls += 1
            return super().calculate_loss(interaction) * (value if self.calls == at else 1.0)

    return Diverging


@pytest.mark.usefixtures("tiny")
@pytest.mark.parametrize(
    ("value", "amp"), [(math.nan, True), (math.inf, False), (-math.inf, False)], ids=str
)
def test_a_loss_that_is_no_finite_number_is_refused_with_the_way_out(
    value: float, amp: bool
) -> None:
    way_out = r"lower learning_rate \(0.01\)" + (", or set enable_amp=False" if amp else "")
    said = f"^the training loss of Diverging is {value} in epoch 1, step 2: {way_out}$"
    with pytest.raises(ValueError, match=said):
        run_recbole_llm(diverging(value, 2), "tiny", config_dict={**KEYS, "enable_amp": amp})


@pytest.mark.usefixtures("tiny")
def test_steps_are_counted_in_each_epoch() -> None:
    with pytest.raises(ValueError, match="is nan in epoch 2, step 1: lower learning_rate"):
        run_recbole_llm(
            diverging(math.nan, 2), "tiny", config_dict={**KEYS, "train_batch_size": 10**6}
        )


@pytest.mark.usefixtures("tiny")
def test_no_learning_rate_is_blamed_for_the_first_loss() -> None:
    said = "in epoch 1, step 1: no step has changed the weights yet, so look at calculate_loss"
    with pytest.raises(ValueError, match=said):
        run_recbole_llm(diverging(math.nan, 1), "tiny", config_dict=KEYS)


@pytest.mark.parametrize("key", ["second_learning_rate", "learning_rate"])
def test_the_phase_is_named_with_the_key_of_its_learning_rate(
    stage: Callable[..., Any], key: str
) -> None:
    run = stage(**{"train_batch_size": 64, key: 0.2})
    trainer = run.trainer(Phase("first", 1, 0.05, 5), Phase("second", 1, 0.2, 5))
    calculate, in_second = trainer.model.calculate_loss, 0

    def diverge(interaction: Any) -> Any:
        nonlocal in_second
        in_second += trainer.model.phase == "second"
        return calculate(interaction) * (math.nan if in_second == 2 else 1.0)

    trainer.model.calculate_loss = diverge
    said = rf"is nan in phase second, epoch 1, step 2: lower {key} \(0.2\)$"
    with pytest.raises(ValueError, match=said):
        trainer.fit(run.train, run.valid, verbose=False)


class Short(SequenceRecommender):
    """A model whose table of `of` lacks a row."""

    of = "items"

    def __init__(self, config: Any, dataset: Any) -> None:
        super().__init__(config, dataset)
        rows = {"items": self.n_items, "users": dataset.user_num}
        rows[self.of] -= 1
        self.items, self.users = (torch.nn.Embedding(rows[n], 8) for n in ("items", "users"))

    def item_vectors(self, ids: torch.Tensor | None = None) -> torch.Tensor:
        return self.items.weight if ids is None else self.items(ids)

    def user_states(self, item_seq: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        return self.item_vectors(item_seq)

    def calculate_loss(self, interaction: Any) -> torch.Tensor:
        return super().calculate_loss(interaction) + self.users(interaction["user_id"]).sum()


@pytest.mark.usefixtures("tiny")
@pytest.mark.parametrize(("of", "rows", "least"), [("items", 60, 0), ("users", 40, 1)])
def test_a_table_without_the_row_of_the_padding_is_named(of: str, rows: int, least: int) -> None:
    said = (
        f"^Short: its nn.Embedding '{of}' has {rows} rows, so it takes ids below that, and got "
        f"{least} to {rows}; items have the ids 0 to 60 and users 0 to 40, where 0 is the padding"
    )
    model = type("Short", (Short,), {"of": of})
    with pytest.raises(ValueError, match=said):
        run_recbole_llm(model, "tiny", config_dict={**KEYS, "train_batch_size": 10**6})


@pytest.mark.usefixtures("tiny")
def test_other_errors_of_an_index_stay_what_they_are() -> None:
    class Wrong(BPR):  # type: ignore[misc]
        def calculate_loss(self, interaction: Any) -> torch.Tensor:
            return self.item_embedding(interaction["item_id"])[:, 10**6].sum()

    with pytest.raises(IndexError, match="index 1000000 is out of bounds"):
        run_recbole_llm(Wrong, "tiny", config_dict=KEYS)
