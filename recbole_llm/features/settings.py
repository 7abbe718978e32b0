"""Reading checked values out of a configuration, whose missing keys are None."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from recbole_llm.core.errors import check_choice


def text(config: Any, key: str) -> str | None:
    """A string, or None where the key is not set.

    Raises:
        ValueError: another type.
    """
    value = config[key]
    if value is None or isinstance(value, str):
        return value
    raise ValueError(f"{key}: expected str, got {value!r}")


def integer(config: Any, key: str, default: int | None = None, minimum: int = 1) -> int | None:
    """An integer of at least `minimum`, or `default` where the key is not set.

    Raises:
        ValueError: another type, or too small.
    """
    value = config[key]
    if value is None:
        return default
    if isinstance(value, bool) or not isinstance(value, int) or value < minimum:
        raise ValueError(f"{key}: expected an int of at least {minimum}, got {value!r}")
    return value


def count(config: Any, key: str, default: int) -> int:
    """A positive integer; `default` where the key is not set."""
    value = integer(config, key, default)
    assert value is not None
    return value


def share(config: Any, key: str) -> float:
    """A number from 0 to 1; 0 where the key is not set.

    Raises:
        ValueError: any other value.
    """
    value = config[key]
    if value is None:
        return 0.0
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value <= 1:
        raise ValueError(f"{key}: expected a number from 0 to 1, got {value!r}")
    return float(value)


def flag(config: Any, key: str) -> bool | None:
    """True, False, or None where the key is not set.

    Raises:
        ValueError: another type.
    """
    value = config[key]
    if value is None or isinstance(value, bool):
        return value
    raise ValueError(f"{key}: expected bool, got {value!r}")


def choice(config: Any, key: str, options: Sequence[str], default: str | None = None) -> str:
    """One of `options`; the first, or `default`, where the key is not set.

    Raises:
        ValueError: any other value.
    """
    value = config[key]
    if value is None:
        return default or options[0]
    check_choice(key, value, options)
    return str(value)
