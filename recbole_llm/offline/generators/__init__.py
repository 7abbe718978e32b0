"""Language models that write texts: local ones, and endpoints."""

from __future__ import annotations

import torch
from recbole.config import Config

from recbole_llm.features.encoders.decoders import Source
from recbole_llm.features.encoders.smollm import NAMES
from recbole_llm.features.stored.store import cache_dir
from recbole_llm.offline.generators.base import Generator
from recbole_llm.offline.generators.chat import ChatGenerator
from recbole_llm.offline.generators.local import LocalGenerator, LocalModel
from recbole_llm.offline.settings import GeneratorSettings

__all__ = ["Generator", "create_generators"]


def create_generators(config: Config, count: int = 1) -> list[Generator]:
    """Create the generators of a configuration; each writes other texts for the same prompts.

    Raises:
        EncoderError: the model cannot be found or is not named, or the API key is missing.
    """
    settings = GeneratorSettings.of(config)
    if settings.generator == "openai":
        placed = settings.model_copy(update=getattr(config, "secrets", None))
        return [ChatGenerator(placed, draw) for draw in range(count)]
    name = settings.generator_model or NAMES[0]
    source = Source.of(name, settings.generator_revision, cache_dir(config), "generator_model")
    model = LocalModel(source, settings, torch.device(config["device"]))
    return [LocalGenerator(model, draw) for draw in range(count)]
