"""Settings of the offline stages."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from recbole_llm.core.marks import Local, Mark, NoEffectOnResults
from recbole_llm.core.settings import (
    ConfigLike,
    Count,
    FieldName,
    Natural,
    Positive,
    Settings,
    Text,
)
from recbole_llm.features.encoders.settings import Address

# Checkpoints hold what such a model made, so loading one does not ask for it.
OfflineModel = Annotated[Text | None, Mark.MODEL_NAME]


class GeneratorSettings(Settings):
    """Generators: the language model that writes texts."""

    generator: Literal["transformers", "openai"] = "transformers"
    """Kind of generator: transformers (local), or openai: any endpoint that speaks OpenAI's chat
    API."""

    generator_model: OfflineModel = None
    """Model: a local path or a hub name, or its name at the endpoint. None:
    SmolLM2-135M-Instruct (transformers)."""

    generator_revision: Text | None = None
    """Commit, tag or branch of generator_model at the hub."""

    generator_adapter: Local[Text | None] = None
    """transformers: folder of a LoRA adapter (peft) that is merged into the model."""

    generator_dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    """transformers: precision. auto: bfloat16 if the device has instructions for it, else
    float32."""

    generator_batch_size: Count = 32
    """transformers: texts that are generated and stored together: the most that a killed run
    repeats."""

    generator_max_new_tokens: Count = 64
    """Longest text, in tokens."""

    generator_temperature: Positive = 0.7
    """Temperature of sampling."""

    generator_top_k: Count = 50
    """transformers: number of most probable tokens to sample from."""

    generator_seed: Natural = 0
    """Seed of sampling; an endpoint receives it, but may ignore it."""

    generator_base_url: Local[Address | None] = None
    """openai: address of the endpoint, such as http://localhost:8000/v1; None: the environment
    variable OPENAI_BASE_URL, or else OpenAI's own endpoint."""

    generator_api_key_env: Local[NoEffectOnResults[FieldName]] = "OPENAI_API_KEY"
    """openai: environment variable that holds the API key."""

    generator_concurrency: NoEffectOnResults[Annotated[int, Field(ge=1, le=256)]] = 8
    """openai: simultaneous requests: the most that a killed run repeats."""

    generator_max_retries: NoEffectOnResults[Natural] = 5
    """openai: retries of a failed request, after growing pauses or the pauses that the endpoint
    asks for. While it accepts no requests (HTTP 429), the run waits for at most this many times
    generator_timeout without any answer."""

    generator_timeout: NoEffectOnResults[Positive] = 120
    """openai: seconds a request may take."""

    def check(self, config: ConfigLike) -> None:
        """Raise ValueError for an adapter with an endpoint, which cannot apply it."""
        if self.generator == "openai" and self.generator_adapter is not None:
            raise ValueError(
                "generator_adapter: an endpoint (generator: openai) takes none; leave it out, or "
                "set generator: transformers"
            )


class TuneSettings(Settings):
    """Low-rank adapters (LoRA; Hu et al., ICLR 2022) that stages tune a language model with."""

    tune_model: OfflineModel = None
    """Model that is tuned: a folder, a .gguf file, or a hub name; None: the model that will use the
    adapter (mirm: encoder_model; recgen: generator_model), or else SmolLM2-135M-Instruct."""
    tune_rank: Count = 8
    """Rank of the adapters, on all linear layers; their scale is 2."""
    tune_learning_rate: Positive = 2e-4
    """Learning rate of AdamW."""
    tune_epochs: Count = 1
    """Passes over the samples."""
    tune_batch_size: Count = 8
    """Samples per step."""
    tune_max_length: Annotated[int, Field(ge=16)] = 256
    """Tokens that a sample is cut to; the oldest part of its prompt is left out."""
    tune_samples: Count = 200
    """Samples of each task; if there are more, this many are drawn at random."""
    tune_held_out: Annotated[float, Field(gt=0, lt=1)] = 0.1
    """Share of each task's samples that is held out, to measure the loss on; they are not learned
    from."""
