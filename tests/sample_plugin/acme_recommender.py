"""A plugin of another project: an encoder here, a model in acme_model.py."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from recbole_llm import EncoderSpec, ModelSpec, hookimpl


@hookimpl
def register_models(register: Any) -> None:
    register(
        ModelSpec(
            "TextMean",
            "acme_model:TextMean",
            settings="acme_model:TextMeanSettings",
            reads=("item_text",),
            summary="the mean of the projected texts so far",
        )
    )


@hookimpl
def register_encoders(register: Any) -> None:
    register(EncoderSpec("letters", LetterCounts, "counts of letters"))


class LetterCounts:
    """Encodes a text as its counts of the letters a to z."""

    fingerprint = "acme-letters-1"

    def __init__(self, config: Any) -> None:
        pass

    def encode(self, texts: Sequence[str]) -> np.ndarray:
        letters = "abcdefghijklmnopqrstuvwxyz"
        return np.array([[t.lower().count(c) for c in letters] for t in texts], np.float32)
