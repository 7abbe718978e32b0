"""Stages that tune a language model: their samples and artifact, which encoders read."""

from __future__ import annotations

import json
import resource
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from made_pictures import picture, tiny_qwen2_vl
from made_texts import PlainConfig
from made_tuning import COLORS, STORIES, stage, weights

from recbole_llm.core import files
from recbole_llm.features.encoders import causal_lm, decoders, multimodal
from recbole_llm.features.encoders.base import EncoderError
from recbole_llm.offline import adapter_training
from recbole_llm.offline.adapter_stage import TuneStage, split_samples
from recbole_llm.offline.adapter_training import AdapterTrainer, Sample
from recbole_llm.offline.stage import StageError


@pytest.mark.parametrize("named, revision", [(None, "v1"), ("a/b", "v1"), ("c/d", None)])
def test_the_encoders_revision_is_used_for_the_encoders_model_alone(
    writer: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, named: str, revision: str
) -> None:
    asked: list[str | None] = []
    monkeypatch.setattr(decoders, "hub_folder", lambda n, at, key: asked.append(at) or writer)
    keys = {"encoder_model": "a/b", "encoder_revision": "v1", "tune_model": named}
    assert stage(writer, tmp_path, **keys).source.folder == writer and asked == [revision]


def test_samples_of_every_task_are_held_out() -> None:
    learnt, held = split_samples([*COLORS, *STORIES], most=10, share=0.2, seed=3)
    assert [s.task for s in held] == ["colors"] * 2 + ["stories"] * 2
    assert (len(learnt), set(learnt) & set(held)) == (16, set())
    assert split_samples([*COLORS, *STORIES], 10, 0.2, 3) == (learnt, held)
    with pytest.raises(StageError, match="task 'colors' has 1 samples"):
        split_samples(COLORS[:1], 10, 0.2, 3)
    learnt, held = split_samples(COLORS, most=10, share=0.96, seed=3)
    assert (len(learnt), len(held)) == (1, 9)
    with pytest.raises(StageError, match="nothing to learn"):
        split_samples([], 10, 0.2, 3)


def test_what_is_held_out_of_one_task_is_learnt_in_none() -> None:
    samples = [
        Sample(task, f"{task} {number}", "a", subject=str(number))
        for task in ("picture", "attributes")
        for number in range(10)
    ]
    learnt, held = split_samples(samples, most=10, share=0.2, seed=3)
    assert [s.task for s in held] == ["picture"] * 2 + ["attributes"] * 2
    assert not {s.subject for s in learnt} & {s.subject for s in held}
    assert len(learnt) == 20 - 2 * len({s.subject for s in held})
    with pytest.raises(StageError, match="task '.*' has nothing left to learn; lower tune_held"):
        split_samples([s for s in samples if s.subject in ("0", "1")], 10, 0.5, 1)


def test_held_out_losses_fall_for_every_task(
    writer: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    made = stage(writer, tmp_path, tune_epochs=2)
    with caplog.at_level("INFO", "recbole_llm"):
        report = made.complete()
    said = next(r for r in caplog.records if "held-out loss" in r.getMessage())
    assert f" --encoder=causal_lm --encoder_adapter={made.path / 'adapter'}" in said.getMessage()
    assert hasattr(said, "shown")  # on the screen, too
    assert (report.units_before, report.units_done) == (0, 28)  # 2 epochs of 27 samples, 2 per step
    losses = json.loads((made.path / "losses.json").read_text())
    assert set(losses["after"]) == {"colors", "stories"}
    assert all(losses["after"][task] < losses["before"][task] - 0.5 for task in losses["before"])
    again = stage(writer, tmp_path, tune_epochs=2)
    assert str(again.complete()).startswith("tuned: there already")
    for damaged in ("{", "[]", '{"before": {"x": 1}, "after": {}}'):
        (made.path / "losses.json").write_text(damaged)
        with pytest.raises(StageError, match="losses.json' is damaged .*; delete '"):
            again.complete()


def test_an_adapter_that_was_deleted_is_missed(writer: Path, tmp_path: Path) -> None:
    made = stage(writer, tmp_path)
    made.complete()
    (made.path / "adapter" / "adapter_model.safetensors").unlink()
    message = "stage tuned: '.*' has no adapter_model.safetensors; delete '.*' to tune again"
    with pytest.raises(StageError, match=message):
        stage(writer, tmp_path).complete()


@pytest.mark.parametrize("change", [{"tune_rank": 2}, {"seed": 2}, {"tune_samples": 9}])
def test_other_inputs_make_another_adapter(
    writer: Path, tmp_path: Path, change: dict[str, Any]
) -> None:
    assert stage(writer, tmp_path).path != stage(writer, tmp_path, **change).path


def test_a_resumed_tuning_ends_like_an_uninterrupted_one(
    writer: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = stage(writer, tmp_path / "whole")
    whole.complete()
    monkeypatch.setattr(adapter_training, "_SAVE_EVERY", 4)
    real, steps = AdapterTrainer._save, []

    def stops(self: AdapterTrainer, file: Path, step: int) -> None:
        real(self, file, step)
        steps.append(step)
        if step == 8:
            raise KeyboardInterrupt

    monkeypatch.setattr(AdapterTrainer, "_save", stops)
    stopped = stage(writer, tmp_path / "stopped")
    with pytest.raises(KeyboardInterrupt):
        stopped.complete()
    monkeypatch.setattr(AdapterTrainer, "_save", real)
    report = stage(writer, tmp_path / "stopped").complete()
    assert (report.units_before, report.units_done) == (8, 6)
    assert all(weights(whole)[name].equal(value) for name, value in weights(stopped).items())
    assert (whole.path / "losses.json").read_text() == (stopped.path / "losses.json").read_text()


def test_memory_that_runs_out_names_the_key_to_lower(
    writer: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = AdapterTrainer.loss

    def fails(self: AdapterTrainer, sample: Sample) -> torch.Tensor:
        if torch.is_grad_enabled():
            raise MemoryError
        return real(self, sample)

    monkeypatch.setattr(AdapterTrainer, "loss", fails)
    with pytest.raises(ValueError, match=r"^a tuning step does not .*; lower tune_max_length"):
        stage(writer, tmp_path).complete()


@pytest.mark.parametrize(("state_fits", "message"), [
    (False, r"state.pth' cannot be written \(.*\); free some space, or set embedding_cache_dir$"),
    (True, r"^stage tuned: '.*adapter' cannot be written: .*File too large"),
])  # fmt: skip
def test_a_full_disk_is_named(
    writer: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, state_fits: bool, message: str
) -> None:
    made, save = stage(writer, tmp_path), AdapterTrainer._save
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)

    def saves(self: AdapterTrainer, file: Path, step: int) -> None:
        # The adapter's weights are larger than this, and the page that peft writes is smaller.
        limit = (resource.RLIMIT_FSIZE, (10_000, hard))
        if not state_fits:
            resource.setrlimit(*limit)
        save(self, file, step)
        resource.setrlimit(*limit)

    monkeypatch.setattr(AdapterTrainer, "_save", saves)
    made.made = COLORS[:4]  # one step, and one state
    try:
        with pytest.raises(ValueError, match=message):
            made.complete()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_finished_training_is_not_repeated_if_publishing_was_interrupted(
    writer: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stops(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(TuneStage, "_publish", stops)
        stage(writer, tmp_path).complete()
    made = stage(writer, tmp_path)
    report = made.complete()
    assert report.units_done == 0 and report.units_before > 0
    assert not list(made.path.glob("*.pth"))  # the training state is deleted then


def test_an_adapters_target_modules_are_written_in_order(writer: Path, tmp_path: Path) -> None:
    """Texts are stored under the digest of the files, which a set's order would change."""
    made = stage(writer, tmp_path)
    made.complete()
    told = json.loads((made.path / "adapter" / "adapter_config.json").read_text())
    assert len(told["target_modules"]) > 2
    assert told["target_modules"] == sorted(told["target_modules"])


def test_files_of_a_killed_save_are_removed(writer: Path, tmp_path: Path) -> None:
    made = stage(writer, tmp_path)
    made.complete()
    left = made.path / f"state.pth{files._suffix(str(2**22 + 1))}"  # beyond any process id
    left.touch()
    stage(writer, tmp_path).complete()
    assert not left.exists()


def test_an_encoder_reads_its_adapter(writer: Path, tmp_path: Path) -> None:
    made = stage(writer, tmp_path)
    made.complete()
    config = PlainConfig(encoder_model=str(writer))
    adapted = PlainConfig(config, encoder_adapter=str(made.path / "adapter"))
    plain, tuned = causal_lm.create(config), causal_lm.create(adapted)
    assert plain.fingerprint != tuned.fingerprint
    vectors = tuned.encode(["the red story"])
    assert np.abs(vectors - plain.encode(["the red story"])).max() > 1e-2
    trainer = AdapterTrainer(made.source, made.settings, "cpu", 100)
    with torch.no_grad():
        for name, parameter in trainer.trained.items():
            parameter.copy_(weights(made)[name.replace(".default", "")])
        ids = torch.tensor([[12, 10, 13]])
        states = trainer.model(input_ids=ids, output_hidden_states=True).hidden_states[-1]
    np.testing.assert_allclose(vectors, states.mean(1), atol=1e-5)


def test_adapters_that_do_not_fit_are_refused(writer: Path, tmp_path: Path) -> None:
    def create(folder: Path) -> Any:
        return causal_lm.create(PlainConfig(encoder_model=str(writer), encoder_adapter=str(folder)))

    with pytest.raises(EncoderError, match="no adapter_config.json and no adapter_model"):
        create(tmp_path)
    made = stage(writer, tmp_path)
    made.complete()
    other = tiny_qwen2_vl(tmp_path / "other")
    wrong = PlainConfig(encoder_model=str(other), encoder_adapter=str(made.path / "adapter"))
    with pytest.raises(EncoderError, match="encoder_adapter: .* does not fit"):
        multimodal.create(wrong).encode(["red"])
    settings = made.path / "adapter" / "adapter_config.json"
    settings.write_text(settings.read_text().replace('"LORA"', '"IA3"'))
    with pytest.raises(EncoderError, match="of kind IA3, not LORA"):
        create(made.path / "adapter")


def test_a_vision_model_learns_from_pictures(tmp_path: Path) -> None:
    file = tmp_path / "picture.png"
    picture(0).save(file)
    model = tiny_qwen2_vl(tmp_path / "model")
    made = stage(model, tmp_path, tune_samples=8)
    made.made = [*COLORS, *(Sample("pictures", f"{i}", "red", file) for i in range(5))]
    made.complete()
    losses = json.loads((made.path / "losses.json").read_text())
    assert losses["after"]["pictures"] < losses["before"]["pictures"]
    config = PlainConfig(encoder_model=str(model), encoder_adapter=str(made.path / "adapter"))
    tuned = multimodal.create(config).encode_contents(["red"], [picture(0)])
    plain = multimodal.create(PlainConfig(encoder_model=str(model)))
    assert np.abs(tuned - plain.encode_contents(["red"], [picture(0)])).max() > 1e-3
