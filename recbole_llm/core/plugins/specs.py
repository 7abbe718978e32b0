"""Specs by name, by model class (registered or not), and by configuration."""

from __future__ import annotations

import sys
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from recbole_llm.core.plugins.loading import find_model, get_model, get_registry
from recbole_llm.core.plugins.registry import ModelSpec, resolve_settings
from recbole_llm.core.plugins.stock import recbole_models, stock_spec
from recbole_llm.core.settings import defaults
from recbole_llm.core.yaml_files import read_yaml

if TYPE_CHECKING:
    from recbole.config import Config


_PARTS = ("dataset", "trainer", "settings", "reads", "stages")


def spec_by_name(name: str) -> ModelSpec:
    """The spec of a registered or a stock RecBole model, `completed`.

    Raises:
        ValueError: unknown name, or a class that cannot be imported.
    """
    return completed(find_model(name), get_model(name))


def completed(spec: ModelSpec, model: type) -> ModelSpec:
    """Complete a spec by the parts of the nearest known model that its class extends. That model's
    YAML file is used only together with its settings."""
    if spec.name in recbole_models():
        return spec
    for base in model.__mro__:
        known = _spec_with(base)
        if known is not None and known.name != spec.name:
            known = completed(known, base)
            parts = {part: getattr(spec, part) or getattr(known, part) for part in _PARTS}
            config = spec.config or (None if spec.settings else known.config)
            return replace(spec, base=known.stock_name, config=config, **parts)
    return spec


def spec_of_class(model: type) -> ModelSpec:
    """The spec of a model class: its own, else that of the nearest known model that it extends,
    whose keys, parts and trainer it uses, else that of its name, else a plain one."""
    for base in model.__mro__:
        if (known := _spec_with(base)) is not None:
            spec = completed(known, base)
            return spec if base is model else replace(spec, model=model)
    with suppress(ValueError):
        return find_model(model.__name__)
    return ModelSpec(model.__name__, model)


def spec_of(config: Config) -> ModelSpec:
    """The spec of a configuration's model; RecBole's own configuration does not hold one.

    If the class is not registered and extends a known model, the spec has that model's name.
    """
    own: ModelSpec | None = vars(config).get("spec")
    if own is None and (registered := get_registry().specs(ModelSpec).get(config["model"])):
        own = completed(registered, config.model_class)
    return spec_of_class(config.model_class) if own is None else own


def model_defaults(spec: ModelSpec) -> dict[str, Any]:
    """The defaults of a model's keys, from its settings class and its YAML file."""
    settings, own = spec.settings, dict[str, Any]()
    if settings is not None:
        own |= defaults(resolve_settings(settings, f"model '{spec.name}'"))
    return own | (read_yaml(spec.config) if spec.config else {})


def _spec_with(model: type) -> ModelSpec | None:
    """The spec that has this class, under any name; None if it is no known model's class."""
    name = model.__name__
    if recbole_models().get(name) == model.__module__:
        return stock_spec(name)  # even if a plugin registered the class under another name
    specs = get_registry().specs(ModelSpec).values()
    return next((spec for spec in specs if _imported(spec.model) is model), None)


def _imported(target: str | type) -> object:
    """The class of a spec; None if it is not imported yet, so that no class can extend it."""
    if not isinstance(target, str):
        return target
    module, _, name = target.partition(":")
    return getattr(sys.modules.get(module), name, None)
