"""The halves of a decoder that has an adapter."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from made_decoder import write_decoder

from recbole_llm.core.config import Config
from recbole_llm.data.create import create_dataset
from recbole_llm.features.encoders import decoders
from recbole_llm.models.bahe.halves import coupled_llm, upper_half
from recbole_llm.testing import write_tiny_dataset


@pytest.fixture
def adapted() -> Any:
    """Write an adapter to the folder `adapter`; return the decoder's layers merged with it."""
    pytest.importorskip("peft")
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    whole = AutoModelForCausalLM.from_pretrained(write_decoder())
    kind = LoraConfig(r=2, target_modules="all-linear", init_lora_weights=False)
    model = get_peft_model(whole, kind)
    model.save_pretrained("adapter")
    return model.merge_and_unload().model.layers


@pytest.mark.parametrize(
    "keys, revision",
    [
        ({"encoder_model": "a/b"}, "v1"),
        ({"encoder_model": "a/b", "decoder_model": "a/b"}, "v1"),
        ({"encoder_model": "a/b", "decoder_model": "c/d"}, None),
        ({"encoder": "hash", "decoder_model": "c/d"}, None),
    ],
)
def test_the_encoders_revision_is_not_of_another_decoder(
    keys: dict[str, Any], revision: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str | None] = []
    folder = Path(write_decoder())
    monkeypatch.setattr(decoders, "hub_folder", lambda n, at, key: asked.append(at) or folder)
    own = {"encoder_revision": "v1", "encoder_layer": 1}
    upper_half(Config("BAHE", "tiny", config_dict={**keys, **own}))
    assert asked == [revision]


def test_the_halves_together_are_the_whole() -> None:
    """Bloom, which normalizes word embeddings before its first block, is no exception."""
    from transformers import AutoModel

    keys = {"encoder_model": write_decoder(kind="Bloom"), "encoder_layer": 1, "high_layers": None}
    upper = upper_half(Config("BAHE", "tiny", config_dict=keys))
    with torch.no_grad():
        whole = AutoModel.from_pretrained("decoder")(
            torch.tensor([[5, 6, 7]]), output_hidden_states=True
        )
        states = upper(whole.hidden_states[1])
    torch.testing.assert_close(states, whole.last_hidden_state)


@pytest.mark.parametrize("decoder", [None, "decoder", "other"])
def test_both_halves_have_the_encoders_adapter(adapted: Any, decoder: str | None) -> None:
    """A decoder of another model does not get the adapter."""
    write_decoder("other")
    write_tiny_dataset("dataset")
    keys = {"encoder_model": "decoder", "encoder_adapter": "adapter", "encoder_layer": 1}
    own = {"high_layers": 1, "decoder_model": decoder, "data_path": "dataset"}
    config = Config("BAHE", "tiny", config_dict={**keys, **own})
    merged = adapted[1].mlp.up_proj.weight
    upper = upper_half(config).model.layers[0].mlp.up_proj.weight
    coupled = coupled_llm(config, create_dataset(config)).decoder.model.layers[1].mlp.up_proj
    for weight in (upper, coupled.weight):
        assert torch.allclose(weight, merged, atol=1e-6) == (decoder != "other")
        assert weight.requires_grad


def test_words_of_the_coupled_llm_are_not_trained() -> None:
    write_tiny_dataset("dataset")
    keys = {"encoder_model": write_decoder(), "encoder_layer": 1, "data_path": "dataset"}
    own = {"coupled": True, "train_level": "prefix"}
    config = Config("BAHE", "tiny", config_dict={**keys, **own})
    coupled = coupled_llm(config, create_dataset(config))
    assert not coupled.words.weight.requires_grad
    assert all(weight.requires_grad for weight in coupled.decoder.model.layers.parameters())
