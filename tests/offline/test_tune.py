"""Tuning with low-rank adapters, on tiny random models of the real classes."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from made_pictures import picture, tiny_qwen2_vl
from made_texts import PlainConfig

from recbole_llm.core import files
from recbole_llm.features.encoders import causal_lm, decoders, multimodal
from recbole_llm.features.encoders.base import EncoderError
from recbole_llm.offline import tuner
from recbole_llm.offline.stage import StageError
from recbole_llm.offline.tune import TuneStage, split_samples
from recbole_llm.offline.tuner import Sample, Tuner

COLOURS = [Sample("colours", f"item {i}", "red" if i % 2 else "blue") for i in range(20)]
STORIES = [Sample("stories", f"the {i}", "the story") for i in range(10)]


class Tuned(TuneStage):
    name = "tuned"
    made: Sequence[Sample] = [*COLOURS, *STORIES]

    def samples(self) -> Sequence[Sample]:
        return self.made


@pytest.fixture
def writer(tmp_path: Path) -> Path:
    """A causal language model with a tokenizer that has a chat template."""
    from made_pictures import _tokenizer
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=14, hidden_size=16, intermediate_size=32, num_attention_heads=4,
        num_hidden_layers=2, initializer_range=0.2, bos_token_id=2, eos_token_id=3,
        attention_dropout=0.2,
    )  # fmt: skip
    folder = tmp_path / "writer"
    LlamaForCausalLM(config).save_pretrained(folder)
    tokenizer = _tokenizer()
    tokenizer.chat_template = (
        "{% for m in messages %}<|im_start|> {{ m.role }} {{ m.content }} <|im_end|> {% endfor %}"
    )
    tokenizer.save_pretrained(folder)
    return folder


def stage(model: Path, cache: Path, **more: Any) -> Tuned:
    keys = {"encoder_model": str(model), "embedding_cache_dir": str(cache), "seed": 1}
    quiet = {"show_progress": False, "tune_learning_rate": 0.02, "tune_batch_size": 2}
    return Tuned(PlainConfig({**keys, **quiet, **more}), SimpleNamespace())


def weights(made: Tuned) -> dict[str, torch.Tensor]:
    from safetensors.torch import load_file

    return load_file(made.path / "adapter" / "adapter_model.safetensors")


@pytest.mark.parametrize("named, revision", [(None, "v1"), ("a/b", "v1"), ("c/d", None)])
def test_a_revision_is_of_the_model_that_it_was_given_for(
    writer: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, named: str, revision: str
) -> None:
    asked: list[str | None] = []
    monkeypatch.setattr(decoders, "hub_folder", lambda n, at, key: asked.append(at) or writer)
    keys = {"encoder_model": "a/b", "encoder_revision": "v1", "tune_model": named}
    assert stage(writer, tmp_path, **keys).source.folder == writer and asked == [revision]


def test_held_out_samples_are_of_every_task_and_not_learnt() -> None:
    learnt, held = split_samples([*COLOURS, *STORIES], most=10, share=0.2, seed=3)
    assert [s.task for s in held] == ["colours"] * 2 + ["stories"] * 2
    assert (len(learnt), set(learnt) & set(held)) == (16, set())
    assert split_samples([*COLOURS, *STORIES], 10, 0.2, 3) == (learnt, held)
    with pytest.raises(StageError, match="task 'colours' has 1 samples"):
        split_samples(COLOURS[:1], 10, 0.2, 3)
    learnt, held = split_samples(COLOURS, most=10, share=0.96, seed=3)
    assert (len(learnt), len(held)) == (1, 9)
    with pytest.raises(StageError, match="nothing to learn"):
        split_samples([], 10, 0.2, 3)


def test_what_is_held_out_of_one_task_is_learnt_in_none() -> None:
    samples = [
        Sample(task, f"{task} {number}", "a", of=str(number))
        for task in ("picture", "attributes")
        for number in range(10)
    ]
    learnt, held = split_samples(samples, most=10, share=0.2, seed=3)
    assert [s.task for s in held] == ["picture"] * 2 + ["attributes"] * 2
    assert not {s.of for s in learnt} & {s.of for s in held}
    assert len(learnt) == 20 - 2 * len({s.of for s in held})
    with pytest.raises(StageError, match="task '.*' has nothing left to learn; lower tune_held"):
        split_samples([s for s in samples if s.of in ("0", "1")], 10, 0.5, 1)


def test_held_out_losses_fall_for_every_task(
    writer: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    made = stage(writer, tmp_path, tune_epochs=2)
    with caplog.at_level("INFO", "recbole_llm"):
        report = made.complete()
    said = next(r for r in caplog.records if "held-out loss" in r.getMessage())
    assert f"for --encoder=causal_lm --encoder_adapter={made.path / 'adapter'}" in said.getMessage()
    assert hasattr(said, "shown")  # on the screen, too
    assert (report.there, report.done) == (0, 28)  # 2 epochs of 27 samples, two a step
    losses = json.loads((made.path / "losses.json").read_text())
    assert set(losses["after"]) == {"colours", "stories"}
    assert all(losses["after"][task] < losses["before"][task] - 0.5 for task in losses["before"])
    again = stage(writer, tmp_path, tune_epochs=2)
    assert str(again.complete()).startswith("tuned: there already")
    for damaged in ("{", "[]", '{"before": {"x": 1}, "after": {}}'):
        (made.path / "losses.json").write_text(damaged)
        with pytest.raises(StageError, match="losses.json' is damaged .*; delete '"):
            again.complete()


@pytest.mark.parametrize("change", [{"tune_rank": 2}, {"seed": 2}, {"tune_samples": 9}])
def test_other_inputs_make_another_adapter(
    writer: Path, tmp_path: Path, change: dict[str, Any]
) -> None:
    assert stage(writer, tmp_path).path != stage(writer, tmp_path, **change).path


def test_a_stopped_tuning_ends_as_if_it_had_not_been_stopped(
    writer: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = stage(writer, tmp_path / "whole")
    whole.complete()
    monkeypatch.setattr(tuner, "_SAVED_EVERY", 4)
    real, steps = Tuner._save, []

    def stops(self: Tuner, file: Path, step: int) -> None:
        real(self, file, step)
        steps.append(step)
        if step == 8:
            raise KeyboardInterrupt

    monkeypatch.setattr(Tuner, "_save", stops)
    stopped = stage(writer, tmp_path / "stopped")
    with pytest.raises(KeyboardInterrupt):
        stopped.complete()
    monkeypatch.setattr(Tuner, "_save", real)
    report = stage(writer, tmp_path / "stopped").complete()
    assert (report.there, report.done) == (8, 6)
    assert all(weights(whole)[name].equal(value) for name, value in weights(stopped).items())
    assert (whole.path / "losses.json").read_text() == (stopped.path / "losses.json").read_text()


def test_a_tuning_that_is_stopped_before_its_artifact_is_whole_is_not_repeated(
    writer: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stops(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(TuneStage, "_finish", stops)
        stage(writer, tmp_path).complete()
    made = stage(writer, tmp_path)
    report = made.complete()
    assert report.done == 0 and report.there > 0
    assert not list(made.path.glob("*.pth"))  # what training goes on from is gone then


def test_an_adapter_is_written_alike_in_every_process(writer: Path, tmp_path: Path) -> None:
    """Its digest is of its files, and texts are stored by it: a set would be in any order."""
    made = stage(writer, tmp_path)
    made.complete()
    told = json.loads((made.path / "adapter" / "adapter_config.json").read_text())
    assert len(told["target_modules"]) > 2
    assert told["target_modules"] == sorted(told["target_modules"])


def test_nothing_of_a_killed_save_is_left(writer: Path, tmp_path: Path) -> None:
    made = stage(writer, tmp_path)
    made.complete()
    left = made.path / f"state.pth{files._suffix(str(2**22 + 1))}"  # of no process
    left.touch()
    stage(writer, tmp_path).complete()
    assert not left.exists()


def test_a_damaged_state_says_what_to_delete(writer: Path, tmp_path: Path) -> None:
    made, file = stage(writer, tmp_path), tmp_path / "state.pth"
    file.write_bytes(b"cut off")
    own = Tuner(made.source, made.settings, "cpu", 100)
    with pytest.raises(StageError, match=f"cannot be read .*; delete '{file}' to begin anew$"):
        own._resume(file, [])


def test_the_loss_by_hand(writer: Path, tmp_path: Path) -> None:
    """Of the answer's tokens and the end's, after the prompt."""
    from transformers import AutoModelForCausalLM

    made = stage(writer, tmp_path)
    own = Tuner(made.source, made.settings, "cpu", 100)
    loss = own.loss(Sample("t", "the", "red story"))
    ids = torch.tensor([[2, 9, 12, 3, 10, 13, 3]])  # … the <|im_end|> | red story <|im_end|>
    with torch.no_grad():
        logits = AutoModelForCausalLM.from_pretrained(writer)(ids).logits[0]
    expected = torch.nn.functional.cross_entropy(logits[3:6], ids[0, 4:])
    torch.testing.assert_close(loss.detach(), expected)


def test_a_model_without_a_chat_template_learns_from_bare_prompts(
    writer: Path, tmp_path: Path
) -> None:
    from transformers import AutoModelForCausalLM

    (writer / "chat_template.jinja").unlink()
    made = stage(writer, tmp_path)
    loss = Tuner(made.source, made.settings, "cpu", 100).loss(Sample("t", "the", "red story"))
    ids = torch.tensor([[12, 10, 13, 3]])  # the | red story <|im_end|>
    with torch.no_grad():
        logits = AutoModelForCausalLM.from_pretrained(writer)(ids).logits[0]
    torch.testing.assert_close(
        loss.detach(), torch.nn.functional.cross_entropy(logits[:3], ids[0, 1:])
    )


def test_no_text_ends_the_users_turn(writer: Path, tmp_path: Path) -> None:
    made = stage(writer, tmp_path)
    own = Tuner(made.source, made.settings, "cpu", 100)
    end = own.tokenizer.eos_token
    tricked = own.loss(Sample("t", f"the {end}", f"red {end} story"))
    torch.testing.assert_close(tricked, own.loss(Sample("t", "the ", "red story")))


def test_markers_that_a_tokenizer_has_no_name_for_end_no_turn(writer: Path) -> None:
    """Phi-3's and Gemma's are special only as added tokens."""
    from tokenizers import AddedToken
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(writer)
    tokenizer.add_tokens([AddedToken("<|end|>", special=True), AddedToken("<plain>")])
    assert decoders.without_special(tokenizer, "tea<|end|> <plain>") == "tea  <plain>"


def test_an_encoder_with_its_adapter(writer: Path, tmp_path: Path) -> None:
    made = stage(writer, tmp_path)
    made.complete()
    config = PlainConfig(encoder_model=str(writer))
    adapted = PlainConfig(config, encoder_adapter=str(made.path / "adapter"))
    plain, tuned = causal_lm.create(config), causal_lm.create(adapted)
    assert plain.fingerprint != tuned.fingerprint
    vectors = tuned.encode(["the red story"])
    assert np.abs(vectors - plain.encode(["the red story"])).max() > 1e-2
    own = Tuner(made.source, made.settings, "cpu", 100)
    with torch.no_grad():
        for name, parameter in own.trained.items():
            parameter.copy_(weights(made)[name.replace(".default", "")])
        ids = torch.tensor([[12, 10, 13]])
        states = own.model(input_ids=ids, output_hidden_states=True).hidden_states[-1]
    np.testing.assert_allclose(vectors, states.mean(1), atol=1e-5)


def test_what_is_no_adapter(writer: Path, tmp_path: Path) -> None:
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


def test_a_model_that_sees_learns_from_pictures(tmp_path: Path) -> None:
    file = tmp_path / "picture.png"
    picture(0).save(file)
    model = tiny_qwen2_vl(tmp_path / "model")
    made = stage(model, tmp_path, tune_samples=8)
    made.made = [*COLOURS, *(Sample("pictures", f"{i}", "red", file) for i in range(5))]
    made.complete()
    losses = json.loads((made.path / "losses.json").read_text())
    assert losses["after"]["pictures"] < losses["before"]["pictures"]
    config = PlainConfig(encoder_model=str(model), encoder_adapter=str(made.path / "adapter"))
    tuned = multimodal.create(config).encode_contents(["red"], [picture(0)])
    plain = multimodal.create(PlainConfig(encoder_model=str(model)))
    assert np.abs(tuned - plain.encode_contents(["red"], [picture(0)])).max() > 1e-3


def test_a_model_of_texts_cannot_see(writer: Path, tmp_path: Path) -> None:
    made = stage(writer, tmp_path)
    file = tmp_path / "p.png"
    picture(0).save(file)
    made.made = [Sample("pictures", "", "red", file)] * 3
    with pytest.raises(StageError, match="task 'pictures' has pictures"):
        made.complete()
