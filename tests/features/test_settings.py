"""Settings of the features: which values are refused, and with which messages."""

from __future__ import annotations

import os
from typing import Any

import pytest
import torch
from made_texts import PlainConfig

from recbole_llm import Config
from recbole_llm.features import settings
from recbole_llm.features.encoders.settings import CausalLMSettings, EndpointSettings
from recbole_llm.features.settings import EncoderSettings, PromptSettings, StoreSettings


@pytest.mark.parametrize(
    ("cls", "values", "message"),
    [
        (EncoderSettings, {"encoder_max_length": 1}, "at least 3 or None, got 1"),
        (EncoderSettings, {"encoder_max_length": "9"}, "expected an integer of at least 3 or None"),
        (EncoderSettings, {"encoder_batch_size": 0}, "encoder_batch_size: expected an integer of"),
        (EncoderSettings, {"encoder_dtype": "fp16"}, "encoder_dtype 'fp16' is unknown.*float16"),
        (EncoderSettings, {"encoder_normalize": 2}, "encoder_normalize: expected True or False"),
        (EncoderSettings, {"encoder": None}, "encoder: expected a text that is not empty"),
        (EncoderSettings, {"encoder_device": "gpu0"}, "encoder_device: 'gpu0' is not available"),
        (EncoderSettings, {"encoder_device": "meta"}, "it holds no numbers.; set cpu"),
        (CausalLMSettings, {"encoder_pooling": "cls"}, "encoder_pooling 'cls' is unknown.*last_to"),
        (CausalLMSettings, {"encoder_layer": 1.5}, "encoder_layer: expected an integer, got 1.5"),
        (EndpointSettings, {"encoder_timeout": 0}, "encoder_timeout: expected a number above 0"),
        (EndpointSettings, {"encoder_request_size": 0}, "encoder_request_size: expected an integ"),
        (StoreSettings, {"missing_embedding": "zero"}, "missing_embedding 'zero' is.*'zeros'"),
        (StoreSettings, {"embedding_store_dtype": "int8"}, "embedding_store_dtype 'int8' is unkno"),
        (PromptSettings, {"user_prompt_max_items": True}, "user_prompt_max_items: expected an int"),
    ],
)
def test_bad_values_are_refused_in_one_line(
    cls: type[settings.Settings], values: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        cls.of(values)
    assert "\n" not in str(caught.value)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_gpu_that_is_not_here_names_the_way_out() -> None:
    said = r"^encoder_device: 'cuda:0' is not .*\(.*\); set cpu, or .*; `gpu_id` sets"
    with pytest.raises(ValueError, match=said):
        Config("PAD", config_dict={"encoder_device": "cuda:0"})


def test_cuda_is_left_alone_until_recbole_has_set_its_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[str, str]] = []
    look = settings._unavailable

    def looks(device: str) -> str:
        seen.append((device, os.environ["CUDA_VISIBLE_DEVICES"]))
        return look("cpu")

    monkeypatch.setattr(settings, "_unavailable", looks)
    Config("PAD", config_dict={"encoder_device": "cuda:1", "gpu_id": "4,6"})
    assert seen == [("cuda:1", "4,6")]


@pytest.mark.parametrize(
    "url", ["localhost:80", "ftp://a/v1", "https://", "http://user:secret@:80", "http://a:x/v1"]
)
def test_an_address_is_checked_and_not_repeated(url: str) -> None:
    """The address may hold credentials."""
    with pytest.raises(ValueError, match="encoder_base_url: expected an address such") as caught:
        EndpointSettings.of({"encoder_base_url": url})
    assert url not in str(caught.value).replace("http://localhost:8000/v1", "")
    EndpointSettings.of({"encoder_base_url": "http://user:secret@localhost:8000/v1"})


@pytest.mark.parametrize(
    ("key", "template", "message"),
    [
        ("item_prompt", "{{ title ", "item_prompt: the template '{{ title ' is not a valid"),
        ("item_prompt", "no-such-name", "item_prompt: 'no-such-name' is neither a template"),
        (
            "user_prompt",
            "{{ title }}",
            "user_prompt: .* uses the field 'title'.*did you mean 'titl",
        ),
    ],
)
def test_a_bad_template_is_refused_with_the_configuration(
    key: str, template: str, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        PromptSettings.of({key: template}).check(PlainConfig({key: template, "dataset": "d"}))
    with pytest.raises(ValueError, match=message):
        Config("PAD", config_dict={key: template})


def test_keys_of_an_encoder_kind_are_checked_where_it_is_chosen() -> None:
    wrong = {"encoder_pooling": "cls"}
    Config("PAD", config_dict={**wrong, "encoder": "bundled"})
    with pytest.raises(ValueError, match="encoder_pooling 'cls' is unknown"):
        Config("PAD", config_dict={**wrong, "encoder": "causal_lm"})


def test_numbers_of_the_command_line_are_texts_where_texts_are_meant() -> None:
    assert EncoderSettings.of({"encoder_revision": 12}).encoder_revision == "12"
