"""What this package adds to RecBole's trainers: a fused optimizer with the same steps, no anomaly
detection, a hook for improvements, checkpoints of plain data."""

from __future__ import annotations

import os
import warnings
from functools import partial
from pathlib import Path
from typing import IO, Any
from unittest.mock import MagicMock, Mock

import numpy as np
import pytest
import torch
from recbole.model.abstract_recommender import AbstractRecommender
from recbole.trainer import Trainer as RecBoleTrainer
from recbole.utils import ModelType

from recbole_llm.core.checkpoints.checkpoint import load_checkpoint
from recbole_llm.core.config import Config
from recbole_llm.core.processes import distributed, randomness
from recbole_llm.quick_start import run_recbole_llm
from recbole_llm.steps import build_model, load_data
from recbole_llm.testing import write_tiny_dataset
from recbole_llm.trainers.trainer import Trainer


class Line(AbstractRecommender):  # type: ignore[misc]
    def __init__(self) -> None:
        super().__init__()
        self.layer = torch.nn.Linear(5, 3)


def trainer(cls: type[Any] = Trainer, **config: Any) -> Any:
    torch.manual_seed(0)
    quiet = {"learning_rate": 0.01, "epochs": 1, "show_progress": False}
    return cls(Config("BPR", "tiny", config_dict={**quiet, **config}), Line())


def weights_after(one: Any, steps: int = 5) -> torch.Tensor:
    inputs = torch.arange(10.0).view(2, 5)
    for _ in range(steps):
        one.optimizer.zero_grad()
        one.model.layer(inputs).square().sum().backward()
        one.optimizer.step()
    return one.model.layer.weight.detach()


def test_a_fused_step_is_the_same_up_to_rounding() -> None:
    fused, plain = trainer(), trainer(fused_optimizer=False)
    assert fused.optimizer.param_groups[0]["fused"] is True
    assert not plain.optimizer.param_groups[0].get("fused")
    assert torch.allclose(weights_after(fused), weights_after(plain), atol=1e-6)


def test_a_resumed_training_goes_on_as_if_it_had_not_stopped() -> None:
    whole, half, again = trainer(), trainer(), trainer()
    expected = weights_after(whole, 6)
    weights_after(half, 3)
    half.cur_step, half.best_valid_score = 2, 0.5
    half._save_checkpoint(7, verbose=False)
    again.resume_checkpoint(Path(half.saved_model_file))
    assert torch.equal(weights_after(again, 3), expected)
    assert (again.start_epoch, again.cur_step, again.best_valid_score) == (8, 2, 0.5)
    assert again.saved_model_file == half.saved_model_file


def test_resuming_another_model_warns(caplog: pytest.LogCaptureFixture) -> None:
    one = trainer()
    one._save_checkpoint(0)
    other = Trainer(Config("LightGCN", "tiny"), Line())
    with caplog.at_level("WARNING"):
        other.resume_checkpoint(one.saved_model_file)
    assert f"{one.saved_model_file} is of model BPR, resumed as LightGCN" in caplog.text


def test_other_optimizers_are_left_alone() -> None:
    assert not trainer(learner="sgd").optimizer.param_groups[0].get("fused")


@pytest.mark.parametrize("wanted", [False, True])
def test_anomaly_detection_is_as_configured(wanted: bool) -> None:
    seen: list[bool] = []

    class Watched(Trainer):
        def _train_epoch(self, *args: Any, **kwargs: Any) -> float:
            seen.append(torch.is_anomaly_enabled())
            return 0.0

    one = trainer(Watched, detect_anomaly=wanted)
    one.eval_collector, one.record_data_state = Mock(), Mock()
    with torch.autograd.set_detect_anomaly(not wanted):
        one.fit(Mock(), saved=False)
    assert seen == [wanted]


@pytest.mark.parametrize(("kind", "seeds"), [("GENERAL", [5]), ("TRADITIONAL", [])])
def test_processes_draw_apart_unless_they_count_the_same_rows(
    kind: str, seeds: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    parted: list[int] = []
    monkeypatch.setattr(randomness, "seed_process", parted.append)
    one = trainer(seed=5)
    one.record_data_state = Mock()
    one.config["MODEL_TYPE"] = ModelType[kind]
    one._prepare_training(Mock())
    assert parted == seeds


# --- improvements ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("bigger", "scores", "better"),
    [
        (True, [0.2, 0.1, 0.2, 0.3, np.nan], [0, 2, 3]),
        (False, [0.2, 0.3, 0.2, 0.1, np.nan], [0, 2, 3]),
    ],
)
def test_improvements_are_those_that_recbole_saves(
    bigger: bool, scores: list[float], better: list[int]
) -> None:
    improved: list[int] = []
    saved: list[int] = []
    epochs = iter(range(len(scores)))

    class Scripted(Trainer):
        def _train_epoch(self, train_data: Any, epoch: int, **kwargs: Any) -> float:
            self.epoch = epoch
            return 0.0

        def _validate(self, *args: Any, **kwargs: Any) -> tuple[float, dict[str, float]]:
            return scores[next(epochs)], {}

        def on_improvement(self) -> None:
            improved.append(self.epoch)

        def _save_checkpoint(self, epoch: int, *args: Any, **kwargs: Any) -> None:
            saved.append(epoch)

    one = trainer(Scripted, epochs=len(scores))
    one.eval_collector, one.record_data_state = MagicMock(), Mock()
    one.valid_metric_bigger = bigger
    one.best_valid_score = -np.inf if bigger else np.inf
    one.fit(Mock(), Mock(), verbose=False)
    assert improved == saved == better


# --- checkpoints -----------------------------------------------------------------------------


@pytest.fixture
def loads(monkeypatch: pytest.MonkeyPatch) -> list[bool | None]:
    """The ``weights_only`` of each call of ``torch.load``; torch < 2.6 takes None for False."""
    seen: list[bool | None] = []
    load = torch.load

    def watched(*args: Any, **kwargs: Any) -> Any:
        seen.append(kwargs.get("weights_only"))
        return load(*args, **kwargs)

    monkeypatch.setattr(torch, "load", watched)
    return seen


@pytest.mark.parametrize("model", ["BPR", "EASE", "ItemKNN", "Pop"])  # matrices, arrays, numbers
def test_the_best_weights_are_tested_and_nothing_is_unpickled(
    model: str, loads: list[bool | None]
) -> None:
    from recbole_llm.trainers.stock import get_trainer

    write_tiny_dataset("dataset")
    quiet = {"epochs": 1, "show_progress": False, "data_path": "dataset"}
    config = Config(model, "tiny", config_dict=quiet)
    _, train, valid, test = load_data(config)
    trained = get_trainer(model)(config, build_model(config, train.dataset))
    trained.fit(train, valid, verbose=False)
    expected = trained.evaluate(test, load_best_model=False)
    loads.clear()
    assert trained.evaluate(test) == expected
    fresh = get_trainer(model)(config, build_model(config, train.dataset))
    assert fresh.evaluate(test, model_file=trained.saved_model_file) == expected
    fresh.resume_checkpoint(trained.saved_model_file)
    assert loads == [True, True, True]


class Payload:
    def __reduce__(self) -> Any:
        return os.mkdir, ("executed",)


@pytest.mark.parametrize("call", ["evaluate", "resume_checkpoint"])
def test_what_is_pickled_is_refused_and_not_executed(call: str) -> None:
    one = trainer()
    torch.save({"config": {"model": "BPR"}, "state_dict": Payload()}, "bad.pth", pickle_protocol=4)
    said = r"checkpoint 'bad.pth' cannot be read .*\(RecBole's own hold pickled objects, which are"
    with warnings.catch_warnings(action="error"), pytest.raises(ValueError, match=said):
        if call == "evaluate":
            one.evaluate([1], model_file="bad.pth")
        else:
            one.resume_checkpoint("bad.pth")
    assert not Path("executed").exists()


def test_a_checkpoint_is_replaced_in_one_step(monkeypatch: pytest.MonkeyPatch) -> None:
    one = trainer()
    one._save_checkpoint(1)

    def die_midway(state: object, part: IO[bytes]) -> None:
        part.write(b"half")
        raise KeyboardInterrupt

    monkeypatch.setattr(torch, "save", die_midway)
    with pytest.raises(KeyboardInterrupt):
        one._save_checkpoint(2)
    assert load_checkpoint(one.saved_model_file)["epoch"] == 1


def test_only_the_first_process_saves(monkeypatch: pytest.MonkeyPatch) -> None:
    one = trainer()
    monkeypatch.setattr(distributed, "_here", distributed.ProcessRank(1, 1, 2))
    one._save_checkpoint(0)
    assert not Path(one.saved_model_file).exists()


def test_the_keys_are_recboles(monkeypatch: pytest.MonkeyPatch) -> None:
    one = trainer()
    written: dict[str, Any] = {}
    monkeypatch.setattr(torch, "save", lambda state, *_, **__: written.update(state))
    RecBoleTrainer._save_checkpoint(one, 0, verbose=False)
    assert set(one._checkpoint(0)) == set(written)


def test_a_model_that_knows_one_precision_alone_is_named() -> None:
    write_tiny_dataset("dataset")
    keys = {"enable_amp": True, "epochs": 1, "show_progress": False}
    with pytest.raises(ValueError, match=r"^enable_amp: NGCF does not train in mixed precision \("):
        run_recbole_llm("NGCF", "tiny", config_dict=keys, saved=False)


def test_a_batch_of_one_row_is_named_where_it_is_normalized() -> None:
    write_tiny_dataset("dataset")
    keys = {"epochs": 1, "show_progress": False, "threshold": {"rating": 3},
            "eval_args": {"mode": "labeled"}, "train_neg_sample_args": None, "metrics": ["AUC"],
            "valid_metric": "AUC", "train_batch_size": 1}  # fmt: skip
    with pytest.raises(ValueError, match="^train_batch_size: a batch of 1, or the last one, has a"):
        run_recbole_llm("DCN", "tiny", config_dict=keys, saved=False)


@pytest.mark.parametrize("metric", ["AUC", "GAUC"])
def test_a_validation_without_a_value_is_named(metric: str) -> None:
    """All ratings reach the threshold, so no epoch could be the best one."""
    write_tiny_dataset("dataset")
    keys = {
        "threshold": {"rating": 1},
        "train_neg_sample_args": None,
        "eval_args": {"split": {"RS": [6, 2, 2]}, "order": "TO", "mode": "labeled"},
        "metrics": ["AUC", "GAUC"],
        "valid_metric": metric,
        "show_progress": False,
    }
    with pytest.raises(ValueError, match=f"^valid_metric: {metric} has no value on validation"):
        run_recbole_llm("LR", "tiny", config_dict=keys)


def test_scaled_gradients_are_clipped_at_their_own_size(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda.amp, "GradScaler", partial(torch.amp.GradScaler, "cpu"))
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)  # else RecBole scales nothing
    inputs = torch.arange(10.0).view(2, 5)
    weights = []
    for scaled in (False, True):
        keys = {"learner": "sgd", "clip_grad_norm": {"max_norm": 0.5}, "use_gpu": False}
        one = trainer(**keys, enable_scaler=scaled)
        one.model.calculate_loss = lambda x, layer=one.model.layer: layer(x).square().sum()
        for _ in range(2):  # each phase has a new optimizer
            one.optimizer = one._build_optimizer()
            one._train_epoch([inputs] * 3, 0)
        weights.append(one.model.layer.weight.detach())
    torch.testing.assert_close(weights[1], weights[0])


def test_other_errors_of_training_stay_what_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    one = trainer(enable_amp=True)
    failing = Mock(side_effect=RuntimeError("out of memory"))
    monkeypatch.setattr(RecBoleTrainer, "_train_epoch", failing)
    with pytest.raises(RuntimeError, match="out of memory"):
        one._train_epoch([], 0)
