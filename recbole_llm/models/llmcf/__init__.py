"""LLM-CF: chains of thought written offline, distilled in context."""

from __future__ import annotations

from collections.abc import Callable

from recbole_llm.core.plugins.registry import PROPERTIES, ModelSpec, StageSpec
from recbole_llm.hookspecs import hookimpl

_HERE = "recbole_llm.models.llmcf"


@hookimpl
def register_models(register: Callable[[ModelSpec], None]) -> None:
    """LLMCF, which predicts clicks, and LLMCFRetrieval, which ranks a catalogue."""
    for name, module, does in (
        ("LLMCF", "model", "clicks by DIN, DeepFM, DCN or AutoInt"),
        ("LLMCFRetrieval", "retrieval", "retrieval by SASRec or another backbone"),
    ):
        register(
            ModelSpec(
                name,
                f"{_HERE}.{module}:{name}",
                settings=f"{_HERE}.settings:{name}Settings",
                config=PROPERTIES / "model" / f"{name}.yaml",
                reads=("item_text", "example_text"),
                stages=("thoughts",),
                paper="Sun et al., CIKM 2024",
                summary=f"chains of thought in context; {does}",
            )
        )


@hookimpl
def register_stages(register: Callable[[StageSpec], None]) -> None:
    """The stage that writes chains of thought, and the stage that tunes the model for it."""
    register(
        StageSpec(
            "thoughts",
            f"{_HERE}.thoughts:WriteThoughts",
            "chains of thought about training examples, by a language model",
            settings="recbole_llm.offline.settings:GeneratorSettings",
        )
    )
    register(
        StageSpec(
            "recgen",
            f"{_HERE}.recgen:RecGenStage",
            "tunes the generator's language model on recommendations and instructions (LLM-CF)",
            settings=f"{_HERE}.settings:RecGenSettings",
        )
    )
