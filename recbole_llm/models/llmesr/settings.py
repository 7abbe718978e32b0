"""The checks of LLM-ESR's configuration that need no data."""

from __future__ import annotations

from typing import Any

from recbole_llm.core.errors import check_choice


def check_settings(config: Any) -> None:
    """Raise ValueError, naming the key and the way out, for a value that cannot work."""
    from recbole_llm.layers.backbones import BACKBONES
    from recbole_llm.models.base import LOSS_TYPES
    from recbole_llm.models.llmesr.distillation import TEACHERS
    from recbole_llm.models.llmesr.layers import VIEWS

    check_choice("views", config["views"], VIEWS)
    check_choice("teacher", config["teacher"], TEACHERS)
    check_choice("backbone", config["backbone"], BACKBONES)
    check_choice("loss_type", config["loss_type"], LOSS_TYPES)
    size = config["hidden_size"]
    if size % config["cross_heads"]:
        raise ValueError(f"cross_heads: {config['cross_heads']} does not divide hidden_size {size}")
    if config["alpha"] > 0:
        _check_user_vectors(config)


def _check_user_vectors(config: Any) -> None:
    """They are made when training starts, too late to learn that they cannot be."""
    if config["encoder"] != "precomputed":
        from recbole_llm.features.prompts import user_template

        user_template(config)
    elif config["user_embedding_path"] is None:
        raise ValueError(
            "user_embedding_path: LLMESR finds similar users by their vectors, which encoder: "
            "precomputed cannot make; give them, or set alpha: 0 (no distillation)"
        )
