"""The spec of a model's class, which need not be registered, and of a configuration's model."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING

from recbole_llm.core.plugins import find_model, get_registry
from recbole_llm.core.registry import ModelSpec

if TYPE_CHECKING:
    from recbole.config import Config


def spec_of_class(model: type) -> ModelSpec:
    """The spec of its name; else that of the nearest known model that it extends, whose keys, parts
    and trainer it takes; else a plain one."""
    for base in model.__mro__:
        with suppress(ValueError):
            spec = find_model(base.__name__)
            return spec if base is model else replace(spec, model=model)
    return ModelSpec(model.__name__, model)


def spec_of(config: Config) -> ModelSpec:
    """The spec of a configuration's model, which RecBole's own configuration does not hold.

    Its name is that of the known model where a class is not registered and extends one.
    """
    registered = get_registry().models.get(config["model"])
    own: ModelSpec | None = registered or vars(config).get("spec")
    return spec_of_class(config.model_class) if own is None else own
