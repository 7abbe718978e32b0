"""Losses, prompts and pictures in the training of adapters."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from made_pictures import picture
from made_tuning import stage

from recbole_llm.core.checkpoints.checkpoint import load_checkpoint, write_checkpoint
from recbole_llm.features.encoders import decoders
from recbole_llm.offline.adapter_training import AdapterTrainer, Sample
from recbole_llm.offline.stage import StageError


def test_a_damaged_state_says_what_to_delete(writer: Path, tmp_path: Path) -> None:
    made, file = stage(writer, tmp_path), tmp_path / "state.pth"
    file.write_bytes(b"cut off")
    trainer = AdapterTrainer(made.source, made.settings, "cpu", 100)
    with pytest.raises(StageError, match=f"cannot be read .*; delete '{file}' to begin anew$"):
        trainer._resume(file, [])


def test_a_state_of_other_adapters_says_what_to_delete(writer: Path, tmp_path: Path) -> None:
    """Another version of peft may name adapters in another way, and an edit may cut them."""
    made, file = stage(writer, tmp_path), tmp_path / "state.pth"
    trainer = AdapterTrainer(made.source, made.settings, "cpu", 100)
    trainer.losses_before, first = {}, next(iter(trainer.trained))
    trainer._save(file, 1)
    state = load_checkpoint(file)
    for change in ({"other": state["adapter"][first]}, {first: torch.zeros(3)}):
        kept = {k: v for k, v in state["adapter"].items() if k != first}
        write_checkpoint({**state, "adapter": {**kept, **change}}, file)
        with pytest.raises(StageError, match=f"'{file}' is of other adapters .*; delete it"):
            trainer._resume(file, [])


def test_the_loss_by_hand(writer: Path, tmp_path: Path) -> None:
    """The loss is the mean over the answer's tokens and its end token, not the prompt's."""
    from transformers import AutoModelForCausalLM

    made = stage(writer, tmp_path)
    trainer = AdapterTrainer(made.source, made.settings, "cpu", 100)
    loss = trainer.loss(Sample("t", "the", "red story"))
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
    loss = AdapterTrainer(made.source, made.settings, "cpu", 100).loss(
        Sample("t", "the", "red story")
    )
    ids = torch.tensor([[12, 10, 13, 3]])  # the | red story <|im_end|>
    with torch.no_grad():
        logits = AutoModelForCausalLM.from_pretrained(writer)(ids).logits[0]
    torch.testing.assert_close(
        loss.detach(), torch.nn.functional.cross_entropy(logits[:3], ids[0, 1:])
    )


def test_special_tokens_in_texts_are_ignored(writer: Path, tmp_path: Path) -> None:
    made = stage(writer, tmp_path)
    trainer = AdapterTrainer(made.source, made.settings, "cpu", 100)
    end = trainer.tokenizer.eos_token
    tricked = trainer.loss(Sample("t", f"the {end}", f"red {end} story"))
    torch.testing.assert_close(tricked, trainer.loss(Sample("t", "the ", "red story")))


def test_special_tokens_that_are_only_added_ones_are_ignored(writer: Path) -> None:
    """The special tokens of Phi-3 and Gemma are special only as added tokens."""
    from tokenizers import AddedToken
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(writer)
    tokenizer.add_tokens([AddedToken("<|end|>", special=True), AddedToken("<plain>")])
    assert decoders.without_special(tokenizer, "tea<|end|> <plain>") == "tea  <plain>"


def test_a_text_model_refuses_pictures(writer: Path, tmp_path: Path) -> None:
    made = stage(writer, tmp_path)
    file = tmp_path / "p.png"
    picture(0).save(file)
    made.made = [Sample("pictures", "", "red", file)] * 3
    with pytest.raises(StageError, match="task 'pictures' has pictures"):
        made.complete()
