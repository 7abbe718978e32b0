"""AlphaRec: recommendation from text alone (Sheng et al., ICLR 2025, arXiv 2407.05441)."""

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
            "AlphaRec",
            "recbole_llm.models.alpharec.model:AlphaRec",
            config=PROPERTIES / "model" / "AlphaRec.yaml",
            needs_text=True,
            summary="a map from item text to preference, graph convolution, InfoNCE; zero-shot",
        )
    )


@hookimpl(tryfirst=True)
def prepare_dataset(config: Config, dataset: Dataset) -> None:
    """Refuse settings that cannot work before any text is encoded."""
    if config["model"] == "AlphaRec":
        from recbole_llm.models.alpharec.settings import check_settings

        check_settings(config)
