"""An encoder for tests: no model, no download."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence

import numpy as np

from recbole_llm.core.plugins.registry import EncoderSpec
from recbole_llm.core.settings import ConfigLike
from recbole_llm.hookspecs import hookimpl


class HashEncoder:
    """Vectors [n, dimension] that depend on each text alone; no model, no download."""

    def __init__(self, dimension: int = 16) -> None:
        self.dimension = dimension
        self.fingerprint = f"hash-{dimension}"
        self.layer = 0  # so that it also stands in for a decoder with hidden states

    def encode(self, texts: Sequence[str]) -> np.ndarray:
        """Return float32 unit vectors, one per text; zeros for a text without words."""
        rows = [self._vector(text) for text in texts]
        return np.stack(rows) if rows else np.zeros((0, self.dimension), np.float32)

    def _vector(self, text: str) -> np.ndarray:
        total = np.zeros(self.dimension)
        for word in text.lower().split():  # texts that share words are near each other
            digest = hashlib.sha256(word.encode()).digest()
            total += np.random.default_rng(list(digest[:8])).standard_normal(self.dimension)
        return (total / max(float(np.linalg.norm(total)), 1e-12)).astype(np.float32)


def hash_encoder(config: ConfigLike) -> HashEncoder:
    """Factory of the encoder kind ``hash``; ``encoder_dimensions`` sets the width."""
    return HashEncoder(int(config["encoder_dimensions"] or 16))


@hookimpl
def register_encoders(register: Callable[[EncoderSpec], None]) -> None:
    """The encoder kind ``hash``."""
    register(EncoderSpec("hash", hash_encoder, "hashed words; for tests"))
