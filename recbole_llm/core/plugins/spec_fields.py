"""Checks that the fields of plugins' specs have the types with which they are read later."""

from __future__ import annotations

import re
from os import PathLike
from types import NoneType
from typing import Any

from recbole_llm.core.errors import check_choice
from recbole_llm.core.plugins.registry import FeatureSpec, Spec, StageSpec, resolve_settings

_NAME = re.compile(r"\w[\w.+-]*")
_TARGET = re.compile(r"\w+(\.\w+)*:\w+")
_NAMES = ("reads", "stages", "requires", "unread")
_CLASSES = ("model", "dataset", "trainer", "settings", "stage")
_CALLABLES = ("factory", "build")
_REQUIRED = ("model", "stage", *_CALLABLES)


def check_spec(spec: object, origin: str) -> None:
    """Raise ValueError, naming the plugin, unless it is a spec with fields of valid types."""
    if not isinstance(spec, Spec):
        raise ValueError(  # noqa: TRY004
            f"plugin '{origin}' registers {spec!r}, which is no ModelSpec, EncoderSpec, "
            f"FeatureSpec or StageSpec (docs/plugins.md)"
        )
    _check_fields(spec, origin)
    what = f"{spec.kind} '{spec.name}' of plugin '{origin}'"
    if isinstance(spec, (FeatureSpec, StageSpec)):
        check_choice(f"{what}: when", spec.when, ("loaded", "split"))
    if isinstance(spec, FeatureSpec):
        check_choice(f"{what}: rows", spec.rows, ("items", "users", "other"))
    if isinstance(spec.settings, type):
        resolve_settings(spec.settings, what)


def _check_fields(spec: Any, origin: str) -> None:
    if not isinstance(spec.name, str) or not _NAME.fullmatch(spec.name):
        raise ValueError(
            f"plugin '{origin}' registers the {spec.kind} {spec.name!r}, which is no name: take "
            f"letters, digits and _, then also . + and -, since files are named by it"
        )
    what = f"{spec.kind} '{spec.name}' of plugin '{origin}'"
    for part in _NAMES:
        _check_names(f"{what}: {part}", getattr(spec, part, ()))
    for part in filter(vars(spec).__contains__, (*_CLASSES, *_CALLABLES)):
        value = getattr(spec, part)
        if value is not None or part in _REQUIRED:
            _check_target(f"{what}: {part}", value, part in _CLASSES)
    for part in ("summary", "paper"):
        if not isinstance(value := getattr(spec, part, ""), str):
            raise ValueError(f"{what}: {part}: expected a text, got {value!r}")  # noqa: TRY004
    if not isinstance(value := getattr(spec, "config", None), (str, PathLike, NoneType)):
        raise ValueError(f"{what}: config: expected a YAML file, got {value!r}")  # noqa: TRY004


def _check_names(what: str, value: object) -> None:
    if isinstance(value, str):
        raise ValueError(f"{what}: write a tuple, ({value!r},), in place of {value!r}")
    if not isinstance(value, (tuple, list)) or not all(isinstance(name, str) for name in value):
        raise ValueError(f"{what}: expected a tuple of names, got {value!r}")


def _check_target(what: str, value: object, is_class: bool) -> None:
    if isinstance(value, str):
        if not _TARGET.fullmatch(value):
            raise ValueError(f"{what}: expected 'package.module:Name', got {value!r}")
    elif not (isinstance(value, type) if is_class else callable(value)):
        kind = "class" if is_class else "function or class"
        raise ValueError(f"{what}: expected a {kind}, or 'package.module:Name', got {value!r}")
