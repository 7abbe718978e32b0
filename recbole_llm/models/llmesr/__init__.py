"""LLM-ESR: dual-view modelling with retrieval-augmented self-distillation."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from recbole_llm.hookspecs import hookimpl
from recbole_llm.registry import PROPERTIES, ModelSpec

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
    """Refuse settings of the users' vectors, which are made when training starts, at once."""
    if config["model"] != "LLMESR" or not config["alpha"] > 0:
        return
    if config["encoder"] != "precomputed":
        from recbole_llm.embeddings.prompts import user_template

        user_template(config)
    elif config["user_embedding_path"] is None:
        raise ValueError(
            "user_embedding_path: LLMESR finds similar users by their vectors, which encoder: "
            "precomputed cannot make; give them, or set alpha: 0 (no distillation)"
        )
