"""LLM-ESR: dual-view modeling with retrieval-augmented self-distillation."""

from __future__ import annotations

from collections.abc import Callable

from recbole_llm.core.plugins.registry import PROPERTIES, ModelSpec
from recbole_llm.hookspecs import hookimpl


@hookimpl
def register_models(register: Callable[[ModelSpec], None]) -> None:
    register(
        ModelSpec(
            "LLMESR",
            "recbole_llm.models.llmesr.model:LLMESR",
            settings="recbole_llm.models.llmesr.settings:LLMESRSettings",
            config=PROPERTIES / "model" / "LLMESR.yaml",
            reads=("item_text", "user_text"),
            summary="LLM-ESR: semantic and collaborative views, self-distillation",
            paper="Liu et al., NeurIPS 2024",
        )
    )
