"""Phases: what each trains, which weights it ends with, and how a run goes on after a stop."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from recbole_llm.core.checkpoints.checkpoint import load_checkpoint
from recbole_llm.models.phased import PhasedRecommender
from recbole_llm.trainers.phased import Phase
from recbole_llm.trainers.resume_point import part_file

Scores = dict[str, list[float]]


class Stop(Exception):
    """Stands for whatever ends a run."""


def recording(trainer: Any, stop_at: tuple[str, int] | None = None) -> tuple[Any, Scores, dict]:
    """A callback that notes scores and weights and raises `Stop` at `stop_at`; and the notes."""
    scores: Scores = {}
    weights: dict[tuple[str, int], dict[str, torch.Tensor]] = {}

    def note(epoch: int, score: float) -> None:
        phase = trainer.model.phase
        scores.setdefault(phase, []).append(score)
        state = {k: v.clone() for k, v in trainer.model.state_dict().items()}
        weights[phase, epoch] = state
        if stop_at == (phase, epoch):
            raise Stop

    return note, scores, weights


def same(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    return all(torch.equal(a[key], b[key]) for key in a)


def scripted(trainer: Any, *scores: float) -> None:
    """Make the validations return these scores in turn."""
    given = iter(scores)

    def validate(*args: Any, **kwargs: Any) -> tuple[float, dict[str, float]]:
        score = next(given)
        return score, {"ndcg@10": score}

    trainer._validate = validate


@pytest.mark.parametrize("method", ["phase_summaries", "phase_items", "phase_parameters"])
def test_a_model_without_a_method_is_named(method: str) -> None:
    class Mine(PhasedRecommender):
        def __init__(self) -> None:
            nn.Module.__init__(self)

    arguments = [torch.tensor([1])] if method == "phase_items" else []
    with pytest.raises(NotImplementedError, match=rf"Mine has no {method}\(.*must implement"):
        getattr(Mine(), method)(*arguments)


@pytest.mark.parametrize("saved", [True, False])
def test_each_phase_ends_with_its_best_weights(stage: Any, saved: bool) -> None:
    run = stage()
    trainer = run.trainer(Phase("first", 4, 0.05, 9), Phase("second", 3, 0.05, 9))
    scripted(trainer, 1, 3, 2, 0, 4, 6, 5)
    note, _, weights = recording(trainer)
    score, result = trainer.fit(run.train, run.valid, verbose=False, saved=saved, callback_fn=note)
    assert (score, result) == (6, {"ndcg@10": 6})
    assert trainer.model.begun == ["first", "second"]
    final = trainer.model.state_dict()
    assert same(final, weights["second", 1])
    # The second phase trained its own table only, from the first's best weights.
    assert torch.equal(final["tables.first.weight"], weights["first", 1]["tables.first.weight"])
    assert not same(weights["second", 0], weights["second", 1])


def test_the_test_is_of_the_best_weights(stage: Any) -> None:
    run = stage()
    trainer = run.trainer(Phase("first", 6, 1.0, 9))
    trainer.fit(run.train, run.valid, verbose=False)
    in_memory = trainer.evaluate(run.valid, load_best_model=False)
    assert trainer.evaluate(run.valid, load_best_model=True) == in_memory
    assert in_memory["ndcg@10"] == trainer.best_valid_score


@pytest.mark.parametrize(
    ("scores", "warned"), [([2, 1, 1], True), ([1, 2, 1, 1], False), ([1, 1, 2, 1], False)]
)
def test_a_first_phase_that_never_got_better_is_named(
    stage: Any, scores: list[float], warned: bool, caplog: pytest.LogCaptureFixture
) -> None:
    run = stage()
    trainer = run.trainer(Phase("first", 4, 0.05, 1), Phase("second", 1, 0.05, 1))
    scripted(trainer, *scores, 9)
    trainer.fit(run.train, run.valid, verbose=False)
    text = "phase first stopped after epoch 3 without improving on epoch 1"
    assert (text in caplog.text) is warned
    assert "phase second stopped" not in caplog.text


def test_each_phase_has_its_own_settings(stage: Any) -> None:
    run = stage(epochs=4, first_epochs=2, second_learning_rate=0.5, second_stopping_step=0)
    first = Phase.from_config(run.config, "first", "one")
    second = Phase.from_config(run.config, "second")
    assert first == Phase("first", 2, 0.05, 5, "one")
    assert second == Phase("second", 4, 0.5, 0)
    trainer = run.trainer(first, second)
    seen: list[tuple[str, int, float, int]] = []

    def note(epoch: int, score: float) -> None:
        rate = trainer.optimizer.param_groups[0]["lr"]
        seen.append((trainer.model.phase, epoch, rate, trainer.stopping_step))

    trainer.fit(run.train, run.valid, verbose=False, saved=False, callback_fn=note)
    assert seen[:2] == [("first", 0, 0.05, 5), ("first", 1, 0.05, 5)]
    assert all(entry[2:] == (0.5, 0) for entry in seen[2:])
    assert [entry[1] for entry in seen[2:]] == list(range(len(seen) - 2))


def test_a_phase_stops_early_and_the_next_one_starts(stage: Any) -> None:
    run = stage()
    trainer = run.trainer(Phase("first", 50, 0.0, 1), Phase("second", 1, 0.01, 1))
    scripted(trainer, *range(100, 0, -1))
    note, scores, _ = recording(trainer)
    trainer.fit(run.train, run.valid, verbose=False, saved=False, callback_fn=note)
    assert scores == {"first": [100, 99, 98], "second": [97]}


def test_an_optimizer_knows_its_phase_only(stage: Any) -> None:
    run = stage(clip_grad_norm={"max_norm": 1.0})
    trainer = run.trainer()
    optimizers: dict[str, Any] = {}

    def note(epoch: int, score: float) -> None:
        optimizers[trainer.model.phase] = trainer.optimizer

    trainer.fit(run.train, run.valid, verbose=False, saved=False, callback_fn=note)
    for phase, optimizer in optimizers.items():
        (trained,) = optimizer.param_groups[0]["params"]
        assert trained is trainer.model.tables[phase].weight
    assert trainer.model.tables["first"].weight.grad is None  # left out of the clipped norm


def test_a_phase_of_no_epochs_is_left_out(stage: Any, caplog: Any) -> None:
    run = stage()
    trainer = run.trainer(Phase("first", 1, 0.05, 5), Phase("second", 0, 0.05, 5))
    with caplog.at_level(logging.INFO):
        trainer.fit(run.train, run.valid)
    assert trainer.model.begun == ["first"]
    assert trainer.model.phase == "first"
    assert "phase second is left out (second_epochs: 0)" in caplog.text
    assert Path(trainer.saved_model_file).is_file()


def test_without_validation_the_last_weights_count(stage: Any, caplog: Any) -> None:
    run = stage()
    trainer = run.trainer()
    with caplog.at_level(logging.INFO):
        assert trainer.fit(run.train, None) == (float("-inf"), None)
    assert caplog.text.count("finished") >= 2 and "best valid" not in caplog.text
    state = {k: v.clone() for k, v in trainer.model.state_dict().items()}
    trainer.evaluate(run.test)
    assert same(state, trainer.model.state_dict())


def test_a_metric_that_should_fall(stage: Any) -> None:
    run = stage()
    trainer = run.trainer(Phase("first", 3, 0.05, 9))
    trainer.valid_metric_bigger = False
    scripted(trainer, 2, 1, 3)
    note, _, weights = recording(trainer)
    assert trainer.fit(run.train, run.valid, verbose=False, callback_fn=note)[0] == 1
    assert same(trainer.model.state_dict(), weights["first", 1])


def test_the_log_says_what_each_phase_does(stage: Any, caplog: Any) -> None:
    run = stage()
    with caplog.at_level(logging.INFO):
        run.trainer().fit(run.train, run.valid)
    text = caplog.text
    parameters = run.train.dataset.item_num * 8
    assert "phase 1/2 first" in text
    assert (
        f": one [at most 3 epochs, learning rate 0.05, stopping step 5, "
        f"{parameters} parameters trained]" in text
    )
    assert "phase 2/2 second" in text
    assert text.count("finished") >= 2


def test_a_model_prepares_itself_once_before_the_first_phase(stage: Any) -> None:
    run = stage()
    trainer = run.trainer()
    calls: list[Any] = []
    trainer.model.before_training = lambda data: calls.append((data, list(trainer.model.begun)))
    trainer.fit(run.train, run.valid, verbose=False, saved=False)
    assert calls == [(run.train, [])]


@pytest.mark.parametrize(
    ("attribute", "method", "names"),
    [
        ("tensorboard", "add_scalar", {
            "first/Loss/Train", "first/Vaild_score", "second/Loss/Train", "second/Vaild_score",
        }),
        ("wandblogger", "log_metrics", {
            "train/first", "valid/first", "train/second", "valid/second",
        }),
    ],
)  # fmt: skip
def test_logged_curves_name_the_phase(
    stage: Any, attribute: str, method: str, names: set[str]
) -> None:
    run = stage()
    trainer = run.trainer()
    logged: set[str] = set()
    logger = getattr(trainer, attribute)
    setattr(logger, method, lambda tag, *_, head=None: logged.add(head or tag))
    trainer.fit(run.train, run.valid, verbose=False, saved=False)
    assert logged == names
    assert getattr(trainer, attribute) is logger


# --- checkpoints -----------------------------------------------------------------------------


def test_each_phase_leaves_a_checkpoint_of_plain_data(stage: Any) -> None:
    run = stage()
    trainer = run.trainer()
    trainer.fit(run.train, run.valid, verbose=False)
    file = trainer.saved_model_file
    for phase in ("first", "second"):
        saved = load_checkpoint(part_file(file, phase))
        assert saved["other_parameter"]["phase"] == phase
    final, last = load_checkpoint(file), load_checkpoint(part_file(file, "second"))
    assert same(final["state_dict"], last["state_dict"])
    assert sorted(p.name for p in Path(file).parent.iterdir()) == sorted(
        Path(f).name for f in (file, part_file(file, "first"), part_file(file, "second"))
    )


def test_without_saving_no_file_is_written(stage: Any) -> None:
    run = stage()
    trainer = run.trainer()
    trainer.fit(run.train, run.valid, verbose=False, saved=False)
    assert list(Path(trainer.saved_model_file).parent.iterdir()) == []


def test_a_phase_can_be_started_anew_from_another_run(stage: Any) -> None:
    run = stage()
    trainer = run.trainer()
    trainer.fit(run.train, run.valid, verbose=False)
    again = run.trainer(seed=1)
    first = part_file(trainer.saved_model_file, "first")
    again.start_after(first)
    again.fit(run.train, run.valid, verbose=False, saved=False)
    assert again.model.begun == ["second"]
    saved = load_checkpoint(first)["state_dict"]["tables.first.weight"]
    assert torch.equal(again.model.state_dict()["tables.first.weight"], saved)
    with pytest.raises(ValueError, match="is of the last phase, 'second': no phase follows it"):
        run.trainer(seed=1).start_after(trainer.saved_model_file)
    with pytest.raises(ValueError, match="holds a model but not where its run stopped"):
        run.trainer(seed=1).resume_checkpoint(first)


def test_the_log_names_the_phase_that_goes_on(stage: Any, caplog: pytest.LogCaptureFixture) -> None:
    run = stage()
    trainer = run.trainer()
    trainer.keep_last_file()
    with pytest.raises(Stop):
        trainer.fit(run.train, run.valid, callback_fn=recording(trainer, ("second", 0))[0])
    caplog.set_level(logging.INFO)
    again = run.trainer()
    again.resume_run(str(trainer.last_file))
    again.fit(run.train, run.valid, verbose=False)
    assert f"from {trainer.last_file}: phase second, epoch 1 is next, best so far" in caplog.text


def test_a_phase_does_not_start_from_a_stopped_run(stage: Any) -> None:
    run = stage()
    trainer = run.trainer()
    trainer.keep_last_file()
    with pytest.raises(Stop):
        trainer.fit(run.train, run.valid, callback_fn=recording(trainer, ("first", 1))[0])
    with pytest.raises(ValueError, match="is of a stopped run; resume it with --resume="):
        run.trainer().start_after(trainer.last_file)


def test_a_run_of_no_phases_is_evaluated_as_it_stands(stage: Any) -> None:
    run = stage()
    trainer = run.trainer(Phase("first", 0, 0.05, 5))
    score, result = trainer.fit(run.train, run.valid, verbose=False)
    assert trainer.model.begun == [] and result["ndcg@10"] == score
    assert trainer.evaluate(run.valid)["ndcg@10"] == score


def test_a_checkpoint_of_another_shape_is_named(stage: Any) -> None:
    run = stage()
    trainer = run.trainer()
    trainer.fit(run.train, run.valid, verbose=False)
    other = run.trainer(seed=1)
    other.model.tables["first"].weight = nn.Parameter(torch.zeros(2, 3))
    with pytest.raises(ValueError, match=r"another shape \(tables.first.weight \(61, 8\) in the"):
        other.start_after(part_file(trainer.saved_model_file, "first"))


def test_a_checkpoint_of_unknown_phase_is_refused(stage: Any) -> None:
    run = stage()
    trainer = run.trainer()
    trainer.fit(run.train, run.valid, verbose=False)
    again = run.trainer(Phase("warm", 1, 0.05, 1))
    with pytest.raises(ValueError, match="phase 'second' is none of warm"):
        again.start_after(trainer.saved_model_file)


def test_a_checkpoint_of_a_model_without_phases_is_refused(stage: Any) -> None:
    run = stage()
    trainer = run.trainer()
    trainer.fit(run.train, run.valid, verbose=False)
    checkpoint = torch.load(trainer.saved_model_file, weights_only=True)
    torch.save({**checkpoint, "other_parameter": None}, "other.pth")
    said = r"^'other.pth' is of a model without phases; a run of \w+ leaves one .*: first, second$"
    with pytest.raises(ValueError, match=said):
        run.trainer().start_after("other.pth")


@pytest.mark.parametrize(("content", "message"), [
    (None, "does not exist"),
    (b"nonsense", "cannot be read"),
    ({"a": 1}, "holds no configuration"),
])  # fmt: skip
def test_files_that_are_no_checkpoints_are_refused(
    content: Any, message: str, tmp_path: Path
) -> None:
    file = tmp_path / "x.pth"
    if isinstance(content, bytes):
        file.write_bytes(content)
    elif content is not None:
        torch.save(content, file)
    with pytest.raises(ValueError, match=f"x.pth' {message}"):
        load_checkpoint(file)
