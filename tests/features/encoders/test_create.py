from __future__ import annotations

from typing import Any

import pytest
from made_texts import PlainConfig

from recbole_llm.core.plugins import list_encoders
from recbole_llm.core.registry import EncoderSpec, Registry, resolve
from recbole_llm.features.encoders import register_encoders
from recbole_llm.features.encoders.base import EncoderError, create_encoder
from recbole_llm.features.encoders.options import Options
from recbole_llm.testing import HashEncoder


def registry(*specs: EncoderSpec) -> Registry:
    made = Registry()
    made.add(specs, "test")
    return made


def test_the_built_in_kinds_are_registered_through_the_hook() -> None:
    built_in = {"bundled", "causal_lm", "openai", "precomputed", "sentence_transformers"}
    assert built_in <= set(list_encoders())
    specs: list[EncoderSpec] = []
    register_encoders(specs.append)
    assert all(callable(resolve(spec.factory)) and spec.summary for spec in specs)


def test_an_unknown_kind_lists_near_matches() -> None:
    with pytest.raises(ValueError, match="encoder 'bundeld' is unknown; did you mean 'bundled'"):
        create_encoder(PlainConfig(encoder="bundeld"))


def test_a_missing_package_is_named_with_the_kinds_that_work() -> None:
    known = registry(
        EncoderSpec("far", "x:y", requires=("not_there_at_all", "json")),
        EncoderSpec("near", "x:y", requires=("json",)),
        EncoderSpec("away", "x:y", requires=("not_there_either",)),
    )
    expected = (
        "encoder 'far' cannot be loaded: it needs a package: pip install not-there-at-all; "
        "encoders whose packages are installed here: near"
    )
    with pytest.raises(EncoderError) as caught:
        create_encoder(PlainConfig(encoder="far"), known)
    assert str(caught.value) == expected


def test_a_factorys_refusal_is_passed_on_with_the_kinds_that_work() -> None:
    def refuse(config: Any) -> None:
        raise EncoderError("no weights")

    known = registry(EncoderSpec("a", refuse), EncoderSpec("b", refuse))
    with pytest.raises(EncoderError, match="'a' cannot be loaded: no weights; .* here: b"):
        create_encoder(PlainConfig(encoder="a"), known)


def test_a_plugins_encoder_gets_the_configuration() -> None:
    made = HashEncoder()
    known = registry(EncoderSpec("mine", lambda config: config["x"]))
    assert create_encoder(PlainConfig(encoder="mine", x=made), known) is made


def test_options() -> None:
    assert Options.read(PlainConfig(device="cuda:1")) == Options(device="cuda:1")
    config = PlainConfig(
        encoder_model="m", encoder_prefix="p", encoder_normalize=False, encoder_max_length=3,
        encoder_dtype="bfloat16", encoder_device="cpu", encoder_batch_tokens=7, device="cuda",
    )  # fmt: skip
    expected = Options("m", None, "p", False, 3, "bfloat16", "cpu", 7)
    assert Options.read(config) == expected
    with pytest.raises(
        ValueError, match="encoder_dtype 'fp16' is unknown.*choose from float32, bfloat16"
    ):
        Options.read(PlainConfig(encoder_dtype="fp16"))
