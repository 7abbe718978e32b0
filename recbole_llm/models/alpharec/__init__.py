"""AlphaRec: recommendation from text alone (Sheng et al., ICLR 2025, arXiv 2407.05441)."""

from __future__ import annotations

from collections.abc import Callable

from recbole_llm.hookspecs import hookimpl
from recbole_llm.registry import PROPERTIES, ModelSpec


@hookimpl
def register_models(register: Callable[[ModelSpec], None]) -> None:
    register(
        ModelSpec(
            "AlphaRec",
            "recbole_llm.models.alpharec.model:AlphaRec",
            config=PROPERTIES / "model" / "AlphaRec.yaml",
            needs_text=True,
            summary="a map from item text to preference, graph convolution, InfoNCE; zero-shot",
        )
    )
