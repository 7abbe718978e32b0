"""An endpoint and a language model for the tests of this folder."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from made_chat import chatter
from made_endpoint import FakeEndpoint, fake_endpoint


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeEndpoint]:
    pytest.importorskip("openai")
    with fake_endpoint(chatter, monkeypatch) as own:
        yield own


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
