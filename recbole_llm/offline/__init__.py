"""Long work that is done once, before a model is trained: encoding texts, writing texts, tuning.

``stage`` has the base class of stages; ``run`` completes those that a model needs. Methods register
their own stages through the hook ``register_stages``.
"""

from __future__ import annotations

from collections.abc import Callable

from recbole_llm.core.plugins.registry import FeatureSpec, StageSpec
from recbole_llm.hookspecs import hookimpl


@hookimpl
def register_stages(register: Callable[[StageSpec], None]) -> None:
    """Register the stage of every model that reads item texts."""
    register(
        StageSpec("encode", "recbole_llm.offline.encode:EncodeStage", "item texts to vectors",
                  when="loaded")
    )  # fmt: skip


@hookimpl
def register_features(register: Callable[[FeatureSpec], None]) -> None:
    """Register the feature that is made of generated texts."""
    register(
        FeatureSpec("example_text", "recbole_llm.offline.generate:example_text", "split",
                    "of a text that a language model wrote about a training example", rows="other")
    )  # fmt: skip
