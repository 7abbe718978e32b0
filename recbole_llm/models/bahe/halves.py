"""The two halves of the decoder, built from the settings."""

from __future__ import annotations

from typing import Any

import torch
from recbole.data.dataset import Dataset

from recbole_llm.core.config import Config
from recbole_llm.features.contents.prompts import Texts, item_texts
from recbole_llm.features.encoders.adapters import with_adapter
from recbole_llm.features.encoders.decoders import Source
from recbole_llm.features.encoders.settings import CausalLMSettings
from recbole_llm.features.encoders.smollm import NAMES
from recbole_llm.features.settings import EncoderSettings
from recbole_llm.features.stored.store import cache_dir
from recbole_llm.layers.decoder import CausalDecoder, depth_of
from recbole_llm.models.bahe.coupled import CoupledLLM
from recbole_llm.models.bahe.settings import BAHESettings


def upper_half(config: Config) -> CausalDecoder:
    """Build the decoder's blocks above ``encoder_layer``, without its word embeddings.

    Raises:
        ValueError: the decoder cannot be found, or cannot be split there.
    """
    settings = BAHESettings.of(config)
    model = _model(config, _source(config))
    first = settings.first_block(config, depth_of(model))
    decoder = _decoder(settings, model, first, settings.high_layers)
    decoder.take_states()
    return decoder


def coupled_llm(config: Config, dataset: Dataset) -> CoupledLLM:
    """Build both halves as one model over the texts of the items."""
    settings, source = BAHESettings.of(config), _source(config)
    model = _model(config, source)
    first = settings.first_block(config, depth_of(model))
    count = None if settings.high_layers is None else first + settings.high_layers
    words = model.get_input_embeddings()
    decoder = _decoder(settings, model, 0, count)
    tokens = _tokens(source.tokenizer(), item_texts(config, dataset), dataset)
    budget = EncoderSettings.of(config).encoder_batch_tokens
    return CoupledLLM(words, decoder, tokens, settings.coupled_max_tokens, budget)


def _source(config: Config) -> Source:
    settings, encoder = BAHESettings.of(config), EncoderSettings.of(config)
    key = "decoder_model" if settings.decoder_model else "encoder_model"
    revision = encoder.encoder_revision if _is_encoder_model(config) else None
    return Source.of(settings.decoder_name(config), revision, cache_dir(config), key)


def _model(config: Config, source: Source) -> Any:
    """Load the decoder, with the encoder's adapter if it is the encoder's model."""
    adapter = CausalLMSettings.of(config).encoder_adapter if _is_encoder_model(config) else None
    return with_adapter(source, torch.float32, adapter)


def _is_encoder_model(config: Config) -> bool:
    """Whether the decoder is the encoder's model, with its revision and adapter."""
    encoder, name = EncoderSettings.of(config), BAHESettings.of(config).decoder_name(config)
    return encoder.encoder == "causal_lm" and name == (encoder.encoder_model or NAMES[0])


def _decoder(settings: BAHESettings, model: Any, first: int, count: int | None) -> CausalDecoder:
    return CausalDecoder(
        model,
        first,
        count,
        tuning=settings.tuning,
        rank=settings.lora_rank,
        checkpointing=settings.gradient_checkpointing,
    )


def _tokens(tokenizer: Any, texts: Texts, dataset: Dataset) -> list[list[int]]:
    """Return the words of each item by id, padding first; each text ends with a newline."""
    names = dataset.field2id_token[dataset.iid_field][1:]
    lines = [f"{texts.get(str(name), '')}\n" for name in names]
    return [[], *tokenizer(lines, add_special_tokens=False)["input_ids"]]
