"""The plain copy of a GGUF file."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from made_texts import WORDS, write_tokenizer

from recbole_llm.features.encoders import gguf_files
from recbole_llm.features.encoders.decoders import Source
from recbole_llm.features.encoders.smollm import smollm_gguf


def unpack(file: Path, folder: Path) -> None:
    """A random Llama in place of the file's."""
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        vocab_size=len(WORDS), hidden_size=16, intermediate_size=32, num_attention_heads=4,
        num_key_value_heads=2, num_hidden_layers=1,
    )  # fmt: skip
    LlamaForCausalLM(config).save_pretrained(folder)
    write_tokenizer(folder, special=False)


def test_a_file_is_unpacked_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    unpacked: list[str] = []

    def once(file: Path, folder: Path) -> None:
        unpacked.append(file.name)
        unpack(file, folder)

    monkeypatch.setattr(gguf_files, "_unpack", once)
    (tmp_path / "x.gguf").write_bytes(b"GGUF")
    source = Source(tmp_path, "x.gguf", cache=tmp_path / "cache")
    before = source.digest
    tokens = source.tokenizer()(WORDS[5])["input_ids"]
    assert tokens == [5] and unpacked == ["x.gguf"]
    assert source.model(torch.bfloat16).dtype == torch.bfloat16
    assert source.model(torch.float32, "AutoModelForCausalLM").lm_head is not None
    assert unpacked == ["x.gguf"]
    assert source.digest == before and source.path == tmp_path / "x.gguf"


def test_an_unpacking_that_fails_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(file: Path, folder: Path) -> None:
        unpack(file, folder)
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(gguf_files, "_unpack", fail)
    with pytest.raises(ValueError, match="No space left on device.*free space there"):
        gguf_files.plain_copy(tmp_path / "x.gguf", tmp_path)
    assert not [file for file in (tmp_path / "models").iterdir() if file.is_dir()]
    monkeypatch.setattr(gguf_files, "_unpack", unpack)
    assert (gguf_files.plain_copy(tmp_path / "x.gguf", tmp_path) / "model.safetensors").is_file()


@pytest.mark.slow
def test_smollms_copy_is_the_same_model(tmp_path: Path) -> None:
    pytest.importorskip("gguf")
    pytest.importorskip("accelerate")
    file = smollm_gguf(tmp_path)
    packed, copy = (Source(file.parent, file.name, cache=cache) for cache in (None, tmp_path))
    words = packed.tokenizer()("<|im_start|>user\nnaïve café 東京  two\n")["input_ids"]
    assert words == copy.tokenizer()("<|im_start|>user\nnaïve café 東京  two\n")["input_ids"]
    assert packed.tokenizer().chat_template == copy.tokenizer().chat_template
    for dtype in (torch.float32, torch.bfloat16):
        models = (source.model(dtype, "AutoModelForCausalLM") for source in (packed, copy))
        weights, copied = (model.state_dict() for model in models)
        assert weights.keys() == copied.keys()
        assert all(torch.equal(weights[name], copied[name]) for name in weights)
