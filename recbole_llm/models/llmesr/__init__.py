"""LLM-ESR: dual-view modelling with retrieval-augmented self-distillation."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from recbole_llm.core.registry import PROPERTIES, ModelSpec
from recbole_llm.hookspecs import hookimpl

if TYPE_CHECKING:
    from recbole.config import Config
    from recbole.data.dataset import Dataset


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


@hookimpl(tryfirst=True)
def prepare_dataset(config: Config, dataset: Dataset) -> None:
    """Refuse settings that cannot work before any text is encoded."""
    if config["model"] == "LLMESR":
        from recbole_llm.models.llmesr.settings import check_settings

        check_settings(config)
