"""Every hook that a plugin may implement, and nothing else.

A plugin is a module or object whose functions carry ``@hookimpl``. An installed package offers
plugins through the entry-point group ``recbole_llm``; the key `plugins` names others.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import pluggy

from recbole_llm.core.plugins.registry import EncoderSpec, FeatureSpec, ModelSpec, StageSpec

if TYPE_CHECKING:
    from recbole.config import Config
    from recbole.data.dataset import Dataset

PROJECT = "recbole_llm"
hookspec = pluggy.HookspecMarker(PROJECT)
hookimpl = pluggy.HookimplMarker(PROJECT)


@hookspec
def register_models(register: Callable[[ModelSpec], None]) -> None:
    """Call ``register(ModelSpec(...))`` for each model that the plugin adds."""


@hookspec
def register_encoders(register: Callable[[EncoderSpec], None]) -> None:
    """Call ``register(EncoderSpec(...))`` for each encoder kind that the plugin adds."""


@hookspec
def register_features(register: Callable[[FeatureSpec], None]) -> None:
    """Call ``register(FeatureSpec(...))`` for each feature that models may read by name."""


@hookspec
def register_stages(register: Callable[[StageSpec], None]) -> None:
    """Call ``register(StageSpec(...))`` for each stage of offline work that models may need."""


@hookspec
def register_settings(register: Callable[[str | type], None]) -> None:
    """Call ``register("package.module:Class")`` for each settings class that every run checks."""


@hookspec
def register_metrics(register: Callable[[str | type], None]) -> None:
    """Call ``register(cls)``, or with ``"package.module:Class"``, for each subclass of
    ``recbole.evaluator.base_metric.AbstractMetric``."""


@hookspec
def prepare_dataset(config: Config, dataset: Dataset) -> None:
    """Attach what the model will read to the loaded data set, before it is split. Called in every
    process of a run."""


@hookspec(firstresult=True)
def item_texts(config: Config, dataset: Dataset) -> Mapping[str, str] | None:
    """Return {item token: text} in place of the rendered ``item_prompt``, or None to pass."""


@hookspec(firstresult=True)
def user_texts(config: Config, dataset: Dataset) -> Mapping[str, str] | None:
    """Return {user token: text}, from training interactions only, or None to pass."""


@hookspec
def on_validation(config: Config, score: float, number: int) -> None:
    """Receive the ``valid_metric`` of a validation, as soon as it is known, and the validation's
    number in the run, from 1. A resumed run repeats the number of an epoch that it trains again.
    Called in every process of a run."""


@hookspec
def on_result(config: Config, result: dict[str, Any]) -> None:
    """Receive the result of a finished run: best_valid_result, test_result, and so on. Called only
    in the first process."""
