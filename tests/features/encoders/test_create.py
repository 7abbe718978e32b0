from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from made_texts import PlainConfig

from recbole_llm.core.plugins.loading import list_encoders
from recbole_llm.core.plugins.registry import EncoderSpec, Registry, resolve
from recbole_llm.features.encoders import base, register_encoders
from recbole_llm.features.encoders.base import EncoderError, create_encoder
from recbole_llm.features.settings import EncoderSettings
from recbole_llm.testing import HashEncoder


@pytest.fixture
def register(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Make the given specs the only registered kinds of encoders."""

    def only(*specs: EncoderSpec) -> None:
        made = Registry()
        made.add(specs, "test")
        monkeypatch.setattr(base, "get_registry", lambda: made)

    return only


def test_the_built_in_kinds_are_registered_through_the_hook() -> None:
    built_in = {"bundled", "causal_lm", "openai", "precomputed", "sentence_transformers"}
    assert built_in <= set(list_encoders())
    specs: list[EncoderSpec] = []
    register_encoders(specs.append)
    assert all(callable(resolve(spec.factory)) and spec.summary for spec in specs)


def test_an_unknown_kind_lists_near_matches() -> None:
    with pytest.raises(ValueError, match="encoder 'bundeld' is unknown; did you mean 'bundled'"):
        create_encoder(PlainConfig(encoder="bundeld"))


def test_a_missing_package_is_named_with_the_kinds_that_work(
    register: Callable[..., None],
) -> None:
    register(
        EncoderSpec("far", "x:y", requires=("not_there_at_all", "json")),
        EncoderSpec("near", "x:y", requires=("json",)),
        EncoderSpec("away", "x:y", requires=("not_there_either",)),
    )
    expected = (
        "encoder 'far' cannot be loaded: it needs a package: pip install not-there-at-all; "
        "encoders whose packages are installed here: near"
    )
    with pytest.raises(EncoderError) as caught:
        create_encoder(PlainConfig(encoder="far"))
    assert str(caught.value) == expected


def test_a_factorys_refusal_is_passed_on(
    register: Callable[..., None],
) -> None:
    def refuse(config: Any) -> None:
        raise EncoderError("no weights")

    register(EncoderSpec("a", refuse), EncoderSpec("b", refuse))
    with pytest.raises(EncoderError, match="^encoder 'a' cannot be loaded: no weights$"):
        create_encoder(PlainConfig(encoder="a"))


def test_what_is_no_encoder_says_what_it_lacks(register: Callable[..., None]) -> None:
    class Half:
        def encode(self, texts: Any) -> None:
            raise AssertionError

    register(EncoderSpec("half", lambda config: Half()))
    with pytest.raises(EncoderError, match="encoder 'half': Half has no fingerprint, which an enc"):
        create_encoder(PlainConfig(encoder="half"))


def test_an_encoder_with_slots_is_one(register: Callable[..., None]) -> None:
    @dataclass(slots=True)
    class Slim:
        fingerprint: str = "slim"

        def encode(self, texts: list[str]) -> np.ndarray:
            return np.zeros((len(texts), 2), np.float32)

    register(EncoderSpec("slim", lambda config: Slim(), "an encoder"))
    assert create_encoder(PlainConfig(encoder="slim")).fingerprint == "slim"


def test_an_encoder_of_pictures_and_texts_encodes_texts_alone_too(
    register: Callable[..., None],
) -> None:
    class Pictures:
        fingerprint, reads_text = "pictures", False

        def encode_contents(self, texts: Any, images: Any) -> None:
            raise AssertionError

    class Both(Pictures):
        reads_text = True

    register(
        EncoderSpec("pictures", lambda config: Pictures()),
        EncoderSpec("both", lambda config: Both()),
    )
    assert isinstance(create_encoder(PlainConfig(encoder="pictures")), Pictures)
    with pytest.raises(EncoderError, match="encoder 'both': Both has no encode, which an encoder"):
        create_encoder(PlainConfig(encoder="both"))


def test_a_plugins_encoder_gets_the_configuration(register: Callable[..., None]) -> None:
    made = HashEncoder()
    register(EncoderSpec("mine", lambda config: config["x"]))
    assert create_encoder(PlainConfig(encoder="mine", x=made)) is made


def test_the_device_is_recboles_unless_the_encoder_has_its_own() -> None:
    assert EncoderSettings.placed(PlainConfig(device="cuda:1")).encoder_device == "cuda:1"
    both = PlainConfig(device="cuda:1", encoder_device="cpu")
    assert EncoderSettings.placed(both).encoder_device == "cpu"
    assert EncoderSettings.placed(PlainConfig()).encoder_device == "cpu"


def test_each_built_in_kind_names_the_class_of_its_own_keys() -> None:
    specs: list[EncoderSpec] = []
    register_encoders(specs.append)
    own = {spec.name: set(resolve(spec.settings).model_fields) for spec in specs if spec.settings}
    assert own == {
        "causal_lm": {"encoder_adapter", "encoder_pooling", "encoder_layer"},
        "multimodal": {"encoder_adapter", "encoder_fusion", "encoder_token"},
        "openai": {
            "encoder_base_url", "encoder_api_key_env", "encoder_request_size",
            "encoder_max_retries", "encoder_timeout",
        },
        "precomputed": {"embedding_path", "user_embedding_path"},
    }  # fmt: skip


@pytest.mark.parametrize("fingerprint", [None, 1, ""])
def test_vectors_are_not_stored_under_no_fingerprint(
    register: Callable[..., None], fingerprint: object
) -> None:
    class Unnamed:
        def __init__(self) -> None:
            self.fingerprint = fingerprint

        def encode(self, texts: Any) -> None:
            raise AssertionError

    register(EncoderSpec("unnamed", lambda config: Unnamed()))
    with pytest.raises(
        EncoderError, match=f"^encoder 'unnamed': its fingerprint is {fingerprint!r}; "
    ):
        create_encoder(PlainConfig(encoder="unnamed"))
