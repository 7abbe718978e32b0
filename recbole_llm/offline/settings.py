"""Keys of the offline stages."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from recbole_llm.core.settings import Count, Positive, Settings, Text


class TuneSettings(Settings):
    """Low-rank adapters (LoRA; Hu et al., ICLR 2022) that stages tune a language model with."""

    tune_model: Text | None = None
    """Model that is tuned: a folder, a .gguf file, or a hub name; None: encoder_model, or
    SmolLM2-135M-Instruct."""
    tune_rank: Count = 8
    """Rank of the adapters, on all linear layers; their scale is 2."""
    tune_learning_rate: Positive = 2e-4
    """Learning rate of AdamW."""
    tune_epochs: Count = 1
    """Passes over the samples."""
    tune_batch_size: Count = 8
    """Samples of a step."""
    tune_max_length: Annotated[int, Field(ge=16)] = 256
    """Tokens a sample is cut to; of its prompt the oldest go."""
    tune_samples: Count = 200
    """Samples of each task; of more these are drawn at random."""
    tune_held_out: Annotated[float, Field(gt=0, lt=1)] = 0.1
    """Share of each task's samples that the loss is measured on and nothing is learnt from."""
