from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from recbole_llm.features import settings


def test_values_and_defaults() -> None:
    config = {"a": "x", "b": 3, "c": True, "d": None}
    assert settings.text(config, "a") == "x"
    assert settings.text(config, "d") is None
    assert settings.integer(config, "b") == 3
    assert settings.count(config, "d", 7) == 7
    assert settings.flag(config, "c") is True
    assert settings.share({"k": 1}, "k") == 1.0
    assert settings.share(config, "d") == 0.0
    assert settings.choice(config, "a", ["w", "x"]) == "x"
    assert settings.choice(config, "d", ["w", "x"]) == "w"
    assert settings.choice(config, "d", ["w", "x"], "x") == "x"


@pytest.mark.parametrize(
    ("read", "value", "message"),
    [
        (lambda c: settings.text(c, "k"), 3, "k: expected str, got 3"),
        (lambda c: settings.flag(c, "k"), 1, "k: expected bool, got 1"),
        (lambda c: settings.count(c, "k", 1), "2", "k: expected an int of at least 1, got '2'"),
        (lambda c: settings.count(c, "k", 1), 0, "k: expected an int of at least 1, got 0"),
        (lambda c: settings.count(c, "k", 1), True, "k: expected an int of at least 1, got True"),
        (lambda c: settings.share(c, "k"), 1.5, "k: expected a number from 0 to 1, got 1.5"),
        (lambda c: settings.share(c, "k"), True, "k: expected a number from 0 to 1, got True"),
        (lambda c: settings.choice(c, "k", ["zeros"]), "zero", "k 'zero' is unknown; did you mean"),
    ],
)
def test_values_of_a_wrong_type_name_the_key(
    read: Callable[[Any], Any], value: Any, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        read({"k": value})
