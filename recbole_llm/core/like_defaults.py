"""Checks of the keys that no settings class declares: most keys of RecBole's models."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from recbole_llm.core.errors import decimal_comma_hint
from recbole_llm.core.settings import split_to_list

_NUMBER = (int, float)


def check_like_defaults(
    given: Mapping[str, Any], defaults: Mapping[str, Any], declared: set[str]
) -> dict[str, Any]:
    """Check that a key which no settings class declares has a value of its default's type, and in
    the range that the default and the key's name show. Return {key: list} of those whose default
    is a list.

    Raises:
        ValueError: in one line: the key, its default, and the given value.
    """
    lists = {}
    for key, value in given.items():
        default = defaults.get(key)
        if key in declared or value is None or default is None:
            continue
        if not _alike(value, default):
            hint = decimal_comma_hint(value) if isinstance(default, _NUMBER) else ""
            raise ValueError(
                f"{key}: expected a value like its default {default!r}, got {value!r}{hint}"
            )
        if isinstance(default, list):
            lists[key] = split_to_list(value)
        _check_range(key, lists.get(key, value), default)
    return lists


def _alike(value: object, default: object) -> bool:
    if isinstance(default, bool):
        return value in (0, 1)
    if isinstance(default, _NUMBER):
        return isinstance(value, (*_NUMBER, list, tuple)) and not isinstance(value, bool)
    if isinstance(default, (list, tuple)):
        return isinstance(value, (list, tuple, str, int))
    return isinstance(value, (type(default), *_NUMBER)) if isinstance(default, str) else True


def _check_range(key: str, value: object, default: Any) -> None:
    """Models accept some impossible numbers without a word (``BERT4Rec --mask_ratio=7``)."""
    given, usual = _numbers(value), _numbers(default)
    if isinstance(default, list) and default and value == []:
        raise ValueError(f"{key}: expected a list that is not empty, like its default {default!r}")
    if not usual or any(number < 0 for number in usual):  # some mean "the last one" by -1
        return
    if any(number < 0 for number in given):
        expected = "at least 0"
    elif "drop" in key and any(number >= 1 for number in given):
        expected = "at least 0 and below 1"
    elif key == "mask_ratio" and any(number > 1 for number in given):
        expected = "0 to 1"
    else:
        return
    raise ValueError(f"{key}: expected {expected}, like its default {default!r}, got {value!r}")


def _numbers(value: object) -> list[float]:
    parts = value if isinstance(value, (list, tuple)) else [value]
    return [p for p in parts if isinstance(p, _NUMBER) and not isinstance(p, bool)]
