"""BAHE: behavior aggregated hierarchical encoding, an LLM split in two."""

from __future__ import annotations

from collections.abc import Callable

from recbole_llm.core.plugins.registry import PROPERTIES, FeatureSpec, ModelSpec
from recbole_llm.hookspecs import hookimpl


@hookimpl
def register_models(register: Callable[[ModelSpec], None]) -> None:
    register(
        ModelSpec(
            "BAHE",
            "recbole_llm.models.bahe.model:BAHE",
            dataset="recbole_llm.models.bahe.behaviors:BehaviorDataset",
            settings="recbole_llm.models.bahe.settings:BAHESettings",
            config=PROPERTIES / "model" / "BAHE.yaml",
            reads=("item_text",),
            paper="Geng et al., SIGIR 2024",
            summary="an LLM's lower layers encode behaviors once, its upper layers read histories",
        )
    )


@hookimpl
def register_features(register: Callable[[FeatureSpec], None]) -> None:
    register(
        FeatureSpec(
            "behavior_text",
            "recbole_llm.models.bahe.behaviors:behavior_text",
            settings="recbole_llm.models.bahe.settings:BAHESettings",
            rows="other",
            summary="texts of distinct behaviors: an item, and what the interaction says of it",
        )
    )
