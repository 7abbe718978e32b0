"""Language models that write: a decoder of transformers, an endpoint."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from made_endpoint import FakeEndpoint, fake_endpoint
from made_texts import WORDS, PlainConfig, write_tokenizer
from tokenizers.processors import TemplateProcessing

from recbole_llm.features.encoders.base import EncoderError
from recbole_llm.features.generated_texts import TextStore
from recbole_llm.offline.ask import generate_texts
from recbole_llm.offline.chat import read_chat
from recbole_llm.offline.generators import computing_dtype, create_generators

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


def local(folder: Path, **keys: Any) -> Any:
    names = {f"generator_{key}": value for key, value in keys.items()}
    small = {"generator_max_new_tokens": 6, "generator_dtype": "float32", "device": "cpu"}
    return create_generators(PlainConfig(generator_model=str(folder), **{**small, **names}), 2)


def test_texts_are_sampled_and_depend_on_seed_and_draw_alone(decoder: Path) -> None:
    first, second = local(decoder)
    state = torch.get_rng_state()
    texts = first.generate(PROMPTS)
    assert torch.get_rng_state().equal(state), "the run's random numbers are used up"
    torch.manual_seed(99)
    assert local(decoder)[0].generate(PROMPTS) == texts
    assert second.generate(PROMPTS) != texts
    assert local(decoder, seed=1)[0].generate(PROMPTS) != texts
    assert all(0 < len(text.split()) <= 6 for text in texts)
    assert 0 < first.tokens <= 24
    assert "4 texts by" in first.cost(PROMPTS) and "at most 24 to write" in first.cost(PROMPTS)


def test_texts_do_not_depend_on_those_that_are_stored(decoder: Path, tmp_path: Path) -> None:
    found = []
    for stored in ([], PROMPTS[1:3]):
        with closing(TextStore(tmp_path / str(len(stored)))) as store:
            generate_texts(local(decoder)[0], store, stored, progress=False)
            found.append(generate_texts(local(decoder)[0], store, PROMPTS, progress=False)[0])
    assert found[0] == found[1]


def test_the_fingerprint_covers_what_changes_texts(decoder: Path, tmp_path: Path) -> None:
    generators = local(decoder)
    adapter = tmp_path / "adapter"
    adapter.mkdir()
    (adapter / "adapter_config.json").write_text('{"peft_type": "LORA"}')
    (adapter / "adapter_model.safetensors").write_bytes(b"weights")
    changed = [
        local(decoder, **keys)[0]
        for keys in (
            {"seed": 1}, {"temperature": 1.0}, {"top_k": 3}, {"max_new_tokens": 7},
            {"dtype": "bfloat16"}, {"batch_size": 2}, {"adapter": str(adapter)},
        )
    ]  # fmt: skip
    names = [generator.fingerprint for generator in (*generators, *changed)]
    assert len(set(names)) == len(names)
    assert local(decoder)[0].fingerprint == names[0]
    (adapter / "adapter_model.safetensors").write_bytes(b"other weights")
    assert local(decoder, adapter=str(adapter))[0].fingerprint != names[-1]


def test_a_title_cannot_end_the_users_turn(decoder: Path) -> None:
    (generator, _) = local(decoder)
    assert generator.model.chats(["a [SEP] b"]) == ["a   b"]


def test_a_template_with_a_first_token_has_no_second(decoder: Path) -> None:
    """As Llama 3's: the tokenizer adds one to plain texts, and the template has its own."""
    (made, _) = local(decoder)
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


def test_the_fingerprint_covers_the_template_in_a_file_of_its_own(decoder: Path) -> None:
    found = set()
    for text in ("", "{{ messages[0]['content'] }}", "{{ messages[0]['role'] }}"):
        (decoder / "chat_template.jinja").write_text(text)
        found.add(local(decoder)[0].fingerprint)
    assert len(found) == 3


def test_no_adapter_there(decoder: Path) -> None:
    with pytest.raises(EncoderError, match="generator_adapter: 'x' has no adapter_config"):
        local(decoder, adapter="x")


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


def chatter(body: dict[str, Any]) -> dict[str, Any]:
    said = f"about {body['messages'][0]['content']}"
    message = {"role": "assistant", "content": said}
    return {"choices": [{"message": message}], "usage": {"completion_tokens": 5}}


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeEndpoint]:
    pytest.importorskip("openai")
    with fake_endpoint(chatter, monkeypatch) as own:
        yield own


def chat(server: FakeEndpoint, **keys: Any) -> Any:
    names = {f"generator_{key}": value for key, value in keys.items()}
    own = {"generator": "openai", "generator_model": "m", "generator_base_url": server.url}
    return create_generators(PlainConfig({**own, **names}), 2)


def test_an_endpoint_without_its_package_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "openai", None)
    nowhere: Any = SimpleNamespace(url="http://127.0.0.1:9/v1")
    with pytest.raises(EncoderError, match=r"package 'openai': pip install '.*\[openai\]'"):
        chat(nowhere)[0].generate(PROMPTS)


def test_an_endpoint_is_asked_and_asked_again(server: FakeEndpoint) -> None:
    first, second = chat(server, seed=4, max_new_tokens=9)
    server.failures[:] = [429, 500]
    assert first.generate(PROMPTS) == [f"about {p}" for p in PROMPTS]
    assert len(server.requests) == 6 and first.tokens == 20
    assert {(body["seed"], body["max_tokens"]) for *_, body in server.requests} == {(4, 9)}
    second.generate(PROMPTS[:1])
    assert server.requests[-1][2]["seed"] == 5
    assert first.fingerprint != second.fingerprint


def test_answers_beside_one_that_fails_are_kept(server: FakeEndpoint, tmp_path: Path) -> None:
    first, _ = chat(server, max_retries=0, concurrency=1)
    server.failures[:] = [500]
    with closing(TextStore(tmp_path)) as store:
        with pytest.raises(EncoderError, match="failed"):
            generate_texts(first, store, PROMPTS, progress=False)
        texts, made = generate_texts(first, store, PROMPTS, progress=False)
    assert made == 1 and texts == [f"about {p}" for p in PROMPTS]
    assert len(server.requests) == 5


def test_an_answer_that_is_none_is_asked_for_again_beside_others(
    server: FakeEndpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("recbole_llm.features.encoders.endpoint._LONGEST_PAUSE", 0.0)
    odd = {2, 3}  # numbers of requests

    def sometimes(body: dict[str, Any]) -> dict[str, Any]:
        return {"choices": []} if len(server.requests) in odd else chatter(body)

    server.reply = sometimes
    first, second = chat(server, concurrency=1, max_retries=2)
    assert first.generate(PROMPTS) == [f"about {p}" for p in PROMPTS]
    assert len(server.requests) == len(PROMPTS) + 2
    odd |= set(range(100))
    with pytest.raises(EncoderError, match="no text in choices"):
        first.generate(PROMPTS[:1])
    assert len(server.requests) == len(PROMPTS) + 5
    with pytest.raises(EncoderError, match="no text in choices"):
        second.generate(PROMPTS[:1])  # which has answered nothing: it may be no chat endpoint
    assert len(server.requests) == len(PROMPTS) + 6


@pytest.mark.parametrize("bad", [{"choices": []}, {"choices": "long" * 2**18}])
def test_a_prompt_that_is_never_answered_with_a_text_has_an_empty_one(
    server: FakeEndpoint, tmp_path: Path, caplog: pytest.LogCaptureFixture, bad: dict[str, Any]
) -> None:
    """It keeps no other waiting, now or when the run is repeated."""
    server.reply = lambda body: (
        bad if body["messages"][0]["content"] == "prompt 1" else chatter(body)
    )
    first, _ = chat(server, max_retries=0, concurrency=1)
    prompts = [f"prompt {number}" for number in range(3 * first.batch_size)]
    with closing(TextStore(tmp_path)) as store:
        for asked in (len(prompts), 0):
            before = len(server.requests)
            texts, _ = generate_texts(first, store, prompts, progress=False)
            assert texts == ["" if p == "prompt 1" else f"about {p}" for p in prompts]
            assert len(server.requests) - before == asked
        assert "an empty text for 1 prompt, refused or never answered" in caplog.text
        server.failures[:] = [500] * len(prompts)
        with pytest.raises(EncoderError, match="failed"):  # and is asked no further
            generate_texts(first, store, [f"new {prompt}" for prompt in prompts], progress=False)
    assert len(server.failures) == 2 * first.batch_size


def test_a_prompt_that_is_refused_beside_others_has_an_empty_text(
    server: FakeEndpoint, caplog: pytest.LogCaptureFixture
) -> None:
    first, _ = chat(server, concurrency=1)
    server.failures[:] = [400]
    assert first.generate(PROMPTS) == ["", *(f"about {p}" for p in PROMPTS[1:])]
    (record,) = caplog.records
    assert record.getMessage().startswith("an empty text for 1 prompt, refused or never")
    assert len(server.requests) == 4  # it was not asked again
    server.failures[:] = [422]
    assert first.generate(PROMPTS[:1]) == [""]


def test_a_run_that_goes_on_takes_a_refusal_as_the_first_run_would(
    server: FakeEndpoint, tmp_path: Path
) -> None:
    with closing(TextStore(tmp_path)) as store:
        generate_texts(chat(server)[0], store, PROMPTS[:3], progress=False)
        server.failures[:] = [400]
        texts, made = generate_texts(chat(server)[0], store, PROMPTS, progress=False)
    assert made == 1 and texts == [*(f"about {p}" for p in PROMPTS[:3]), ""]


@pytest.fixture
def interrupt(caplog: pytest.LogCaptureFixture) -> Iterator[Callable[[], None]]:
    """Interrupts this process, and waits until the generator has heard of it."""

    def sent() -> None:
        os.kill(os.getpid(), signal.SIGINT)
        deadline = time.monotonic() + 60
        while "interrupted" not in caplog.text and time.monotonic() < deadline:
            time.sleep(0.01)

    caplog.set_level("INFO", "recbole_llm")
    # Workers of pytest-xdist, and processes in the background, ignore it.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield sent
    signal.signal(signal.SIGINT, before)


@pytest.mark.parametrize("concurrency", [1, 2])
def test_an_interrupt_keeps_what_was_asked_and_lets_no_request_begin(
    server: FakeEndpoint, tmp_path: Path, interrupt: Callable[[], None], concurrency: int
) -> None:
    def interrupting(body: dict[str, Any]) -> dict[str, Any]:
        if len(server.requests) == 3:
            interrupt()
        return chatter(body)

    first, _ = chat(server, concurrency=concurrency)
    prompts = [f"p{i}" for i in range(16)]
    server.reply = interrupting
    with closing(TextStore(tmp_path)) as store:
        with pytest.raises(KeyboardInterrupt):
            generate_texts(first, store, prompts, progress=False)
        asked = len(server.requests)
        assert len(store) == asked < 16
        texts, made = generate_texts(first, store, prompts, progress=False)
    assert made == 16 - asked and len(server.requests) == 16
    assert texts == [f"about {p}" for p in prompts]


def test_an_endpoint_that_refuses_all_is_asked_wrongly(server: FakeEndpoint) -> None:
    first, _ = chat(server)
    server.failures[:] = [400] * len(PROMPTS)
    with pytest.raises(EncoderError, match="failed for model 'm'"):
        first.generate(PROMPTS)


def test_all_requests_at_once_are_used(server: FakeEndpoint, tmp_path: Path) -> None:
    calls: list[int] = []
    first, _ = chat(server, concurrency=20)
    generate = first.generate
    first.generate = lambda prompts: calls.append(len(prompts)) or generate(prompts)
    with closing(TextStore(tmp_path)) as store:
        generate_texts(first, store, [f"p{i}" for i in range(100)], progress=False)
    assert calls == [80, 20]


def test_an_endpoint_that_stays_away_is_named(server: FakeEndpoint) -> None:
    (generator, _) = chat(server, max_retries=1, concurrency=1)
    server.failures[:] = [500] * 9
    with pytest.raises(EncoderError, match="failed for model 'm' .*texts that arrived before are"):
        generator.generate(PROMPTS[:1])


@pytest.mark.parametrize(
    "body", [b"", b"[]", b"{}", b'{"choices": []}', b'{"choices": [{"message": 1}]}',
             b'{"choices": [{"message": {"content": 3}}]}', b"[" * 100_000]
)  # fmt: skip
def test_answers_that_are_none(body: bytes) -> None:
    with pytest.raises(EncoderError, match="text"):
        read_chat(body)


def test_a_refusal_is_an_empty_text() -> None:
    assert read_chat(b'{"choices": [{"message": {"content": null}}]}') == ("", 0)


def test_what_is_said_of_usage_loses_no_text() -> None:
    body = b'{"choices": [{"message": {"content": "a"}}], "usage": "n/a"}'
    assert read_chat(body) == ("a", 0)


def test_what_an_endpoint_says_in_place_of_a_text_is_repeated() -> None:
    with pytest.raises(EncoderError, match="the model is loading"):
        read_chat(b'{"error": {"message": "the model is loading"}}')


def test_what_must_be_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    with pytest.raises(EncoderError, match="set generator_model"):
        create_generators(PlainConfig(generator="openai"))
    with pytest.raises(EncoderError, match="OPENAI_API_KEY holds no API key; .*generator_base_url"):
        create_generators(PlainConfig(generator="openai", generator_model="m"))
