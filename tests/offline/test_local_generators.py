"""Generators that run language models locally."""

from __future__ import annotations

import json
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import torch
from made_texts import WORDS, PlainConfig, write_tokenizer
from tokenizers.processors import TemplateProcessing

from recbole_llm.features.encoders.base import EncoderError
from recbole_llm.features.stored.generated_texts import TextStore
from recbole_llm.offline.generators import create_generators
from recbole_llm.offline.generators.local import LocalGenerator, computing_dtype
from recbole_llm.offline.write_texts import write_texts

PROMPTS = [f"the {WORDS[5 + i]} of the {WORDS[6 + i]}" for i in range(4)]


@pytest.fixture
def decoder(tmp_path: Path) -> Path:
    from transformers import LlamaConfig, LlamaForCausalLM

    folder = tmp_path / "decoder"
    folder.mkdir()
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(WORDS), hidden_size=16, intermediate_size=32, num_attention_heads=2,
        num_hidden_layers=1, initializer_range=0.5, eos_token_id=3, pad_token_id=0,
    )  # fmt: skip
    LlamaForCausalLM(config).save_pretrained(folder)
    write_tokenizer(folder, special=False, eos_token="[SEP]", padding_side="right")
    return folder


def local_generators(folder: Path, **keys: Any) -> Any:
    names = {f"generator_{key}": value for key, value in keys.items()}
    small = {"generator_max_new_tokens": 6, "generator_dtype": "float32", "device": "cpu"}
    return create_generators(PlainConfig(generator_model=str(folder), **{**small, **names}), 2)


def test_texts_are_sampled_and_depend_on_seed_and_draw_alone(decoder: Path) -> None:
    first, second = local_generators(decoder)
    state = torch.get_rng_state()
    texts = first.generate(PROMPTS)
    assert torch.get_rng_state().equal(state), "the run's random numbers are used up"
    torch.manual_seed(99)
    assert local_generators(decoder)[0].generate(PROMPTS) == texts
    assert second.generate(PROMPTS) != texts
    assert local_generators(decoder, seed=1)[0].generate(PROMPTS) != texts
    assert all(0 < len(text.split()) <= 6 for text in texts)
    assert 0 < first.tokens <= 24
    assert "4 texts by" in first.cost(PROMPTS) and "at most 24 to write" in first.cost(PROMPTS)


def test_a_tokenizer_may_declare_types_of_tokens(decoder: Path) -> None:
    file = decoder / "tokenizer_config.json"
    names = {"model_input_names": ["input_ids", "token_type_ids", "attention_mask"]}
    file.write_text(json.dumps({**json.loads(file.read_text("utf-8")), **names}), encoding="utf-8")
    assert len(local_generators(decoder)[0].generate(PROMPTS)) == 4


def test_texts_do_not_depend_on_those_that_are_stored(decoder: Path, tmp_path: Path) -> None:
    found = []
    for stored in ([], PROMPTS[1:3]):
        with closing(TextStore(tmp_path / str(len(stored)))) as store:
            write_texts(local_generators(decoder)[0], store, stored, progress=False)
            found.append(
                write_texts(local_generators(decoder)[0], store, PROMPTS, progress=False)[0]
            )
    assert found[0] == found[1]


def test_the_fingerprint_covers_what_changes_texts(decoder: Path, tmp_path: Path) -> None:
    generators = local_generators(decoder)
    adapter = tmp_path / "adapter"
    adapter.mkdir()
    (adapter / "adapter_config.json").write_text('{"peft_type": "LORA"}')
    (adapter / "adapter_model.safetensors").write_bytes(b"weights")
    changed = [
        local_generators(decoder, **keys)[0]
        for keys in (
            {"seed": 1}, {"temperature": 1.0}, {"top_k": 3}, {"max_new_tokens": 7},
            {"dtype": "bfloat16"}, {"batch_size": 2}, {"adapter": str(adapter)},
        )
    ]  # fmt: skip
    names = [generator.fingerprint for generator in (*generators, *changed)]
    assert len(set(names)) == len(names)
    assert local_generators(decoder)[0].fingerprint == names[0]
    (adapter / "adapter_model.safetensors").write_bytes(b"other weights")
    assert local_generators(decoder, adapter=str(adapter))[0].fingerprint != names[-1]


def test_a_title_cannot_end_the_users_turn(decoder: Path) -> None:
    (generator, _) = local_generators(decoder)
    assert generator.model.chats(["a [SEP] b"]) == ["a   b"]


def test_a_template_with_a_first_token_gets_no_second_one(decoder: Path) -> None:
    """For example, Llama 3's tokenizer adds one to plain texts, but its template has one."""
    (made, _) = local_generators(decoder)
    tokenizer = made.model.tokenizer
    tokenizer.add_special_tokens({"bos_token": "[CLS]"})
    tokenizer._tokenizer.post_processor = TemplateProcessing(
        single="[CLS] $A", special_tokens=[("[CLS]", tokenizer.bos_token_id)]
    )
    first = [tokenizer.bos_token_id]
    assert tokenizer("red")["input_ids"][:1] == first
    plain = made.model.tokens(["red"])["input_ids"][0]
    tokenizer.chat_template = "{{ bos_token }} {{ messages[0]['content'] }}"
    assert made.model.tokens(["red"])["input_ids"][0] == plain


def test_a_template_without_the_first_token_gets_it_as_in_tuning(decoder: Path) -> None:
    """The fingerprint changes only for such templates."""
    before = local_generators(decoder)[0].fingerprint
    (made, _) = local_generators(decoder)
    tokenizer = made.model.tokenizer
    tokenizer.chat_template = "{{ messages[0]['content'] }}"
    assert fingerprint_now(made) == before
    tokenizer.add_special_tokens({"bos_token": "[CLS]"})
    assert fingerprint_now(made) == before
    tokenizer._tokenizer.post_processor = TemplateProcessing(
        single="[CLS] $A", special_tokens=[("[CLS]", tokenizer.bos_token_id)]
    )
    assert fingerprint_now(made) != before
    assert made.model.tokens(["red"])["input_ids"] == [tokenizer("[CLS] red").input_ids[1:]]
    tokenizer.chat_template = "{{ bos_token }} {{ messages[0]['content'] }}"
    assert fingerprint_now(made) == before
    tokenizer.chat_template = None
    assert fingerprint_now(made) == before


def fingerprint_now(made: LocalGenerator) -> str:
    """Return the fingerprint of the generator with its tokenizer as it is now."""
    made.model.__dict__.pop("digest", None)
    return LocalGenerator(made.model, 0).fingerprint


def test_memory_that_runs_out_names_the_key_to_lower(
    decoder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: object, **__: object) -> None:
        raise MemoryError

    (generator, _) = local_generators(decoder)
    monkeypatch.setattr(generator.model.weights, "generate", fails)
    with pytest.raises(ValueError, match=r"^generating 4 texts .*; lower generator_batch_size"):
        generator.generate(PROMPTS)


def test_too_long_prompts_name_the_keys(decoder: Path) -> None:
    settings = json.loads((decoder / "config.json").read_text())
    (decoder / "config.json").write_text(json.dumps({**settings, "max_position_embeddings": 12}))
    (generator, _) = local_generators(decoder, max_new_tokens=6)
    six, seven = " ".join(["red"] * 6), " ".join(["red"] * 7)
    assert "6 tokens to read" in generator.cost([six])
    for read in (generator.cost, generator.generate):
        with pytest.raises(
            EncoderError,
            match="'.*decoder' has 12 positions; a prompt of 7 tokens and generator_max_new_tokens "
            ".6. exceed them: .*thought_history",
        ):
            read([six, seven])


def test_a_tokenizer_without_padding_and_end_tokens(decoder: Path) -> None:
    """Padding is masked before a prompt and left out of texts."""
    texts = local_generators(decoder)[0].generate(PROMPTS)
    (generator, _) = local_generators(decoder)
    model = generator.model
    tokenizer = model.tokenizer
    tokenizer.eos_token = tokenizer.pad_token = None
    assert model.pad_token_id == 3  # the model's own end token
    batch = model.inputs(["red", "red red"])
    (short, long), mask = batch["input_ids"].tolist(), batch["attention_mask"].tolist()
    assert short == [3, long[0]] and mask == [[0, 1], [1, 1]]
    assert generator.generate(PROMPTS) == texts
    del model.__dict__["pad_token_id"]
    model.weights.generation_config.eos_token_id = None
    assert model.pad_token_id == 0


def test_the_fingerprint_covers_the_template_in_a_file_of_its_own(decoder: Path) -> None:
    found = set()
    for text in ("", "{{ messages[0]['content'] }}", "{{ messages[0]['role'] }}"):
        (decoder / "chat_template.jinja").write_text(text)
        found.add(local_generators(decoder)[0].fingerprint)
    assert len(found) == 3


def test_a_missing_adapter_is_named(decoder: Path) -> None:
    with pytest.raises(EncoderError, match="generator_adapter: 'x' has no adapter_config"):
        local_generators(decoder, adapter="x")


def test_precision_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    assert computing_dtype("float16", torch.device("cpu")) is torch.float16
    assert computing_dtype("auto", torch.device("meta")) is torch.float32
    monkeypatch.setattr(torch.version, "hip", None)
    for version, precision in (((7, 5), torch.float32), ((8, 0), torch.bfloat16)):
        monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device, v=version: v)
        assert computing_dtype("auto", torch.device("cuda:1")) is precision
    monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: False)
    monkeypatch.setattr(torch.ops, "mkldnn", object())  # as in a torch without oneDNN
    assert computing_dtype("auto", torch.device("cpu")) is torch.float32
