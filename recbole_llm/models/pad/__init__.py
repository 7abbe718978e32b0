"""PAD: Pre-train, Align, Disentangle (SIGIR 2025)."""

from __future__ import annotations

from collections.abc import Callable

from recbole_llm.core.plugins.registry import PROPERTIES, ModelSpec
from recbole_llm.hookspecs import hookimpl


@hookimpl
def register_models(register: Callable[[ModelSpec], None]) -> None:
    register(
        ModelSpec(
            "PAD",
            "recbole_llm.models.pad.model:PAD",
            trainer="recbole_llm.trainers.phased:PhasedTrainer",
            settings="recbole_llm.models.pad.settings:PADSettings",
            config=PROPERTIES / "model" / "PAD.yaml",
            reads=("item_text",),
            summary="ID, aligned and LLM experts, gated by item frequency",
            paper="Wang et al., SIGIR 2025",
        )
    )
