"""Messages of trainings that fail."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from recbole.model.general_recommender import BPR

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
