"""Fingerprints of a model's frozen vectors, stored in its checkpoint in place of the vectors."""

from __future__ import annotations

from collections.abc import Container, Mapping
from typing import TYPE_CHECKING

from recbole_llm.core.errors import one_line

if TYPE_CHECKING:
    from recbole.model.abstract_recommender import AbstractRecommender

WHITENED = " whitened by "  # in a fingerprint, between that of the raw vectors and a power


def embedding_fingerprints(model: AbstractRecommender) -> dict[str, str]:
    """Fingerprint of each frozen table in the model, whose vectors no checkpoint holds."""
    return {
        name: module.fingerprint
        for name, module in model.named_modules()
        if isinstance(getattr(module, "fingerprint", None), str)
    }


def check_fingerprints(
    model: AbstractRecommender, saved: Mapping[str, str], compared: Container[str] = ()
) -> None:
    """Raise ValueError if the model's frozen vectors are not those of the checkpoint. For vectors
    that were already `compared` row by row, only the whitening must agree."""
    current = embedding_fingerprints(model) if saved else {}  # decision trees are not modules
    for name, fingerprint in dict(saved).items():
        was, _, before = str(fingerprint).partition(WHITENED)
        now, _, power = str(current.get(name)).partition(WHITENED)
        if was != now and now not in compared:
            raise ValueError(
                f"the checkpoint was trained on other vectors ('{one_line(name)}': {was[:12]}, now "
                f"{now[:12]}); set encoder, item_prompt and whatever else produces the vectors as "
                f"in training, or train again"
            )
        if before != power:
            raise ValueError(
                f"the checkpoint was trained on text embeddings whitened differently "
                f"('{one_line(name)}': {one_line(before or 'not noted by an older version')}, now "
                f"{power or 'none'}); set text_whitening or vector_whitening as in training, or "
                f"train again"
            )
