"""LLM-ESR: dual-view modelling with retrieval-augmented self-distillation."""

from __future__ import annotations

from collections.abc import Callable

from recbole_llm.hookspecs import hookimpl
from recbole_llm.registry import PROPERTIES, ModelSpec


@hookimpl
def register_models(register: Callable[[ModelSpec], None]) -> None:
    """LLMESR."""
    register(
        ModelSpec(
            "LLMESR",
            "recbole_llm.models.llmesr.model:LLMESR",
            config=PROPERTIES / "model" / "LLMESR.yaml",
            needs_text=True,
            summary="LLM-ESR (NeurIPS 2024): semantic and collaborative views, self-distillation",
        )
    )
