"""AlphaRec: recommendation from text alone (Sheng et al., ICLR 2025, arXiv 2407.05441)."""

from __future__ import annotations

from collections.abc import Callable

from recbole_llm.core.plugins.registry import PROPERTIES, ModelSpec
from recbole_llm.hookspecs import hookimpl


@hookimpl
def register_models(register: Callable[[ModelSpec], None]) -> None:
    register(
        ModelSpec(
            "AlphaRec",
            "recbole_llm.models.alpharec.model:AlphaRec",
            settings="recbole_llm.models.alpharec.settings:AlphaRecSettings",
            config=PROPERTIES / "model" / "AlphaRec.yaml",
            reads=("item_text",),
            summary="a map from item text to preference, graph convolution, InfoNCE; zero-shot",
            paper="Sheng et al., ICLR 2025",
        )
    )
