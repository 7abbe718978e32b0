"""Whether the fields of a plugin's spec are of the kinds that are read later."""

from __future__ import annotations

import re
from typing import Any

_NAME = re.compile(r"[\w.+-]+")
_TARGET = re.compile(r"\w+(\.\w+)*:\w+")
_NAMES = ("reads", "stages", "requires", "unread")
_CLASSES = ("model", "dataset", "trainer", "settings", "stage")
_CALLABLES = ("factory", "build")


def check_fields(spec: Any, origin: str) -> None:
    """Raise ValueError, with the plugin and the field, for a value of another kind."""
    if not isinstance(spec.name, str) or not _NAME.fullmatch(spec.name):
        raise ValueError(
            f"plugin '{origin}' registers the {spec.kind} {spec.name!r}, which is no name: take "
            f"letters, digits, _ . + and -, since files are called by it"
        )
    what = f"{spec.kind} '{spec.name}' of plugin '{origin}'"
    for part in _NAMES:
        _check_names(f"{what}: {part}", getattr(spec, part, ()))
    for part in (*_CLASSES, *_CALLABLES):
        _check_target(f"{what}: {part}", getattr(spec, part, None), part in _CLASSES)


def _check_names(what: str, value: object) -> None:
    if isinstance(value, str):
        raise ValueError(f"{what}: write a tuple, ({value!r},), in place of {value!r}")
    if not isinstance(value, (tuple, list)) or not all(isinstance(name, str) for name in value):
        raise ValueError(f"{what}: expected a tuple of names, got {value!r}")


def _check_target(what: str, value: object, is_class: bool) -> None:
    if isinstance(value, str):
        if not _TARGET.fullmatch(value):
            raise ValueError(f"{what}: expected 'package.module:Name', got {value!r}")
    elif value is not None and not (isinstance(value, type) if is_class else callable(value)):
        kind = "class" if is_class else "function or class"
        raise ValueError(f"{what}: expected a {kind}, or 'package.module:Name', got {value!r}")
