"""Molar: an LLM over item vectors, aligned with an ID model afterwards."""

from __future__ import annotations

from collections.abc import Callable

from recbole_llm.core.plugins.registry import PROPERTIES, ModelSpec, StageSpec
from recbole_llm.hookspecs import hookimpl


@hookimpl
def register_models(register: Callable[[ModelSpec], None]) -> None:
    register(
        ModelSpec(
            "Molar",
            "recbole_llm.models.molar.model:Molar",
            trainer="recbole_llm.trainers.phased:PhasedTrainer",
            settings="recbole_llm.models.molar.settings:MolarSettings",
            config=PROPERTIES / "model" / "Molar.yaml",
            reads=("item_text",),
            paper="Luo et al., 2024",
            summary="an LLM over item vectors of text and images, post-alignment",
        )
    )


@hookimpl
def register_stages(register: Callable[[StageSpec], None]) -> None:
    register(
        StageSpec(
            "mirm",
            "recbole_llm.models.molar.mirm:MIRMStage",
            "tunes the encoder's language model on items and training histories (Molar)",
            settings="recbole_llm.models.molar.settings:MIRMSettings",
        )
    )
