"""The unpacked copy of a GGUF file."""

from __future__ import annotations

import platform
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
import transformers
from made_texts import WORDS, encoder_settings, write_tokenizer
from safetensors import SafetensorError

from recbole_llm.features.encoders import gguf_files
from recbole_llm.features.encoders.base import EncoderError
from recbole_llm.features.encoders.causal_lm import CausalEncoder
from recbole_llm.features.encoders.decoders import Source
from recbole_llm.features.encoders.settings import CausalLMSettings
from recbole_llm.features.encoders.smollm import smollm_gguf


def unpack(file: Path, folder: Path) -> None:
    """Write a random Llama in place of the file's model."""
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        vocab_size=len(WORDS), hidden_size=16, intermediate_size=32, num_attention_heads=4,
        num_key_value_heads=2, num_hidden_layers=1, max_position_embeddings=64,
    )  # fmt: skip
    LlamaForCausalLM(config).save_pretrained(folder)
    write_tokenizer(folder, special=False)


def test_a_file_is_unpacked_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    unpacked: list[str] = []

    def once(file: Path, folder: Path) -> None:
        unpacked.append(file.name)
        unpack(file, folder)

    monkeypatch.setattr(gguf_files, "_write_unpacked", once)
    (tmp_path / "x.gguf").write_bytes(b"GGUF")
    source = Source(tmp_path, "x.gguf", cache=tmp_path / "cache")
    before = source.digest
    with caplog.at_level("INFO"):
        tokens = source.tokenizer()(WORDS[5])["input_ids"]
    assert tokens == [5] and unpacked == ["x.gguf"]
    shown = [record.message for record in caplog.records if hasattr(record, "shown")]
    assert shown == ["Encoder: unpacking 'x.gguf' once"]
    assert source.model(torch.bfloat16).dtype == torch.bfloat16
    assert source.model(torch.float32, "AutoModelForCausalLM").lm_head is not None
    assert unpacked == ["x.gguf"]
    assert source.digest == before and source.path == tmp_path / "x.gguf"


def test_a_file_with_few_positions_is_not_read_past_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gguf_files, "_write_unpacked", unpack)  # a model of 64 positions
    (tmp_path / "x.gguf").write_bytes(b"GGUF")
    source, own = Source(tmp_path, "x.gguf", cache=tmp_path / "cache"), CausalLMSettings()
    fitting = CausalEncoder(source, encoder_settings(max_length=64), own)
    assert fitting.encode(["red"]).shape == (1, 16)
    with pytest.raises(EncoderError, match="encoder_max_length: .* reads 64 tokens .* got 512; se"):
        CausalEncoder(source, encoder_settings(), own).encode(["red"])


def test_an_unpacking_that_fails_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(file: Path, folder: Path) -> None:
        unpack(file, folder)
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(gguf_files, "_write_unpacked", fail)
    with pytest.raises(ValueError, match="No space left on device.*free space there"):
        gguf_files.unpack_gguf(tmp_path / "x.gguf", tmp_path)
    assert not [file for file in (tmp_path / "models").iterdir() if file.is_dir()]
    monkeypatch.setattr(gguf_files, "_write_unpacked", unpack)
    assert (gguf_files.unpack_gguf(tmp_path / "x.gguf", tmp_path) / "model.safetensors").is_file()


def test_a_copy_that_is_there_is_read_where_nothing_can_be_written(tmp_path: Path) -> None:
    copy = tmp_path / "models" / f"x.transformers-{transformers.__version__.partition('.')[0]}"
    copy.mkdir(parents=True)
    assert gguf_files.unpack_gguf(tmp_path / "x.gguf", tmp_path) == copy
    assert list(copy.parent.iterdir()) == [copy]  # no lock, and no file that tests writing


def test_a_copy_that_lacks_files_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gguf_files, "_write_unpacked", unpack)
    copy = gguf_files.unpack_gguf(tmp_path / "x.gguf", tmp_path)
    (copy / "model.safetensors").unlink()
    with pytest.raises(EncoderError, match=f"remove its copy '{copy}', which is then remade"):
        Source(tmp_path, "x.gguf", cache=tmp_path).model(torch.float32)


def test_what_a_killed_unpacking_left_is_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    left = tmp_path / "models" / f"x.transformers-5.{platform.node()}-999999999.recbole-llm-part"
    left.mkdir(parents=True)
    monkeypatch.setattr(gguf_files, "_write_unpacked", unpack)
    gguf_files.unpack_gguf(tmp_path / "x.gguf", tmp_path)
    assert not left.exists()


def test_a_file_that_transformers_cannot_read_is_no_full_disk(tmp_path: Path) -> None:
    (tmp_path / "x.gguf").write_bytes(b"GGUF")
    with pytest.raises(EncoderError, match=r"x.gguf' cannot be loaded by transformers \("):
        Source(tmp_path, "x.gguf", cache=tmp_path).tokenizer()


def test_a_disk_that_is_full_of_weights_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(folder: Path) -> None:
        raise SafetensorError("Error while serializing: I/O error: No space left on device")

    for name, save in (("AutoTokenizer", Path.exists), ("AutoModelForCausalLM", full)):
        made = SimpleNamespace(save_pretrained=save)
        loader = getattr(transformers, name)
        monkeypatch.setattr(loader, "from_pretrained", lambda *_, made=made, **__: made)
    with pytest.raises(ValueError, match="cannot be written .*No space left.*; free space there"):
        gguf_files.unpack_gguf(tmp_path / "x.gguf", tmp_path)


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
