"""The live line of a training."""

from __future__ import annotations

import logging
from typing import Any

import pytest
import torch

from recbole_llm.trainers.phased import Phase
from recbole_llm.trainers.progress import Progress, Training, duration


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.04, "0.0 s"), (9.94, "9.9 s"), (9.96, "10 s"), (59.6, "1 min 0 s"), (200, "3 min 20 s"),
     (7500, "2 h 5 min")],
)  # fmt: skip
def test_durations(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def test_the_time_left_is_that_of_the_epochs_so_far() -> None:
    training = Training("", limit=10, patience=3, epoch=4, done=2)  # resumed at epoch 3
    training.train_seconds, training.valid_seconds = 6.0, 2.0
    assert training.seconds_left() == 24.0  # 4 s an epoch, 6 epochs
    assert training.seconds_left(0.25) == 27.0  # and three quarters of the fourth


def test_what_the_line_says(caplog: pytest.LogCaptureFixture) -> None:
    progress = Progress("NDCG@10")
    progress.shown = True
    weight = torch.zeros(1, requires_grad=True)
    optimizer = torch.optim.SGD([weight])
    training = progress.training(name="align", limit=20, patience=2)
    with caplog.at_level(logging.INFO), training:
        for index, score in enumerate([0.1, 0.3, 0.2]):
            with progress.epoch(index, 2, optimizer):
                optimizer.step()
            with progress.validation():
                pass
            progress.validated(score, improved=score != 0.2)
        now = progress.trainings[0]
        now.train_seconds, now.valid_seconds = 5.0, 1.0
        assert progress._line(now, "50%") == (
            "align epoch 3 of at most 20 | 50% | NDCG@10 0.2000, best 0.3000 in epoch 2 | "
            "stops after 2 more without improvement | at most 34 s left"
        )
    assert "align       3 epochs in 6.0 s; best NDCG@10 0.3000 in epoch 2" in caplog.text
    assert not optimizer._optimizer_step_post_hooks  # no epoch leaves anything behind


@pytest.mark.parametrize(("shown", "epoch"), [(False, 1), (True, 0)])
def test_nothing_is_said_unless_shown_or_where_no_epoch_was_trained(
    shown: bool, epoch: int, caplog: pytest.LogCaptureFixture
) -> None:
    progress = Progress("NDCG@10")
    progress.shown = shown
    with caplog.at_level(logging.INFO), progress.training(name="", limit=1, patience=0):
        progress.trainings[0].epoch = epoch
    assert caplog.text == "" and progress.trainings[0].best_epoch == 0


def test_an_evaluation_outside_of_a_training() -> None:
    progress = Progress("NDCG@10")
    with progress.validation():
        pass
    progress.validated(0.5, improved=True)
    assert progress.trainings[0].best_score == 0.5


def test_a_phase_of_fewer_epochs_than_eval_step_is_validated_at_its_end(stage: Any) -> None:
    run = stage(eval_step=3)
    trainer = run.trainer(Phase("first", 2, 0.05, 5), Phase("second", 4, 0.05, 5))
    trainer.fit(run.train, run.valid, verbose=False, saved=False)
    epochs = [[epoch for epoch, *_ in one.curve] for one in trainer.progress.trainings]
    assert epochs == [[2], [3]]
