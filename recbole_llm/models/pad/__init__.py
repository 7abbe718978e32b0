"""PAD: Pre-train, Align, Disentangle (SIGIR 2025)."""

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
    register(
        ModelSpec(
            "PAD",
            "recbole_llm.models.pad.model:PAD",
            trainer="recbole_llm.models.pad.trainer:PADTrainer",
            config=PROPERTIES / "model" / "PAD.yaml",
            needs_text=True,
            summary="PAD (SIGIR 2025): ID, aligned and LLM experts, gated by item frequency",
        )
    )


@hookimpl(tryfirst=True)
def prepare_dataset(config: Config, dataset: Dataset) -> None:
    """Refuse settings that cannot work before any text is encoded."""
    if config["model"] == "PAD":
        from recbole_llm.models.pad.settings import check_settings

        check_settings(config)
