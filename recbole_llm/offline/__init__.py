"""Long work that is done once, before a model is trained: encoding texts, generating texts, tuning.

``stage`` says what a stage is, ``run`` does those that a model needs; a method brings its own
stages through the hook ``register_stages``.
"""

from __future__ import annotations

from collections.abc import Callable

from recbole_llm.core.plugins.registry import FeatureSpec, StageSpec
from recbole_llm.hookspecs import hookimpl


@hookimpl
def register_stages(register: Callable[[StageSpec], None]) -> None:
    """The stage that every model of item texts has."""
    register(
        StageSpec("encode", "recbole_llm.offline.encode:EncodeStage", "item texts to vectors",
                  when="loaded")
    )  # fmt: skip


@hookimpl
def register_features(register: Callable[[FeatureSpec], None]) -> None:
    """The feature that is made of generated texts."""
    register(
        FeatureSpec("example_text", "recbole_llm.offline.generate:example_text", "split",
                    "of a text that a language model wrote about a training example", rows="other")
    )  # fmt: skip
