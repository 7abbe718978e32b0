"""Keys of a pre-trained decoder in a model. Light on purpose."""

from __future__ import annotations

from typing import Literal

from recbole_llm.core.settings import Count, Flag, Settings

Tuning = Literal["full", "lora", "frozen"]


class DecoderSettings(Settings):
    """A pre-trained decoder, or blocks of one, in a model."""

    tuning: Tuning = "full"
    """What trains of the decoder: all of its blocks that are used (full), low-rank adapters
    (lora), or nothing (frozen)."""
    lora_rank: Count = 8
    """Rank of the adapters."""
    gradient_checkpointing: Flag = False
    """Whether the decoder's activations are computed again for the gradients, which needs less
    memory and more time."""
