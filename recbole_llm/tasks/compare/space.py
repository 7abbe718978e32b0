"""The space of a search: a model's own, a part of it, or keys that the user names."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

from recbole_llm.core.checks import check_searched, key_marks, settings_classes
from recbole_llm.core.config import Config
from recbole_llm.core.errors import unknown_name_error
from recbole_llm.core.marks import Mark
from recbole_llm.core.plugins.registry import PACKAGE, ModelSpec
from recbole_llm.core.schema import parse_literal
from recbole_llm.core.settings import Between, Space
from recbole_llm.tasks.compare.entries import Entry

_ALIKE = ("repeatable", "eval_step")  # only models of a comparison may differ in them
_FORM = "learning_rate; hidden_size=[64,128]; hidden_dropout_prob=0.1..0.5"


def resolve_space(entry: Entry, search: str | None = None) -> Space:
    """Find out which of a model's settings are searched, with the choices or range of each.

    Args:
        entry: the model; keys that the user set are not searched.
        search: keys, separated by semicolons: alone, with choices (``key=[1,2]``), or with a range
            (``key=low..high``, on a logarithmic scale); None: all keys of the model's own space.

    Raises:
        ValueError: in one line: nothing to search, an unknown or a set key, a key that is named
            twice, or a value that the key does not take.
    """
    offered = offered_space(entry.config, entry.config.spec)
    if search is None:
        if not offered:
            raise ValueError(f"{entry.label}: nothing to search; name keys: --search='key=[a,b]'")
        space = {key: where for key, where in offered.items() if not entry.is_set(key)}
        if not space:
            raise ValueError(f"{entry.label}: every key that is searched is set; leave some out")
        for key in _plugin_keys(entry) & set(space):
            _check_offered(key, space[key], entry)
        return space
    parts = [
        _parse_part(part.strip(), entry, offered) for part in search.split(";") if part.strip()
    ]
    keys = [key for key, _ in parts]
    if not keys:
        raise ValueError(f"search: name keys, such as --search='{_FORM}'")
    if twice := [key for key in keys if keys.count(key) > 1]:
        raise ValueError(f"search: {twice[0]} is named twice; name it once, with all its choices")
    return dict(parts)


def offered_space(config: Config, spec: ModelSpec) -> dict[str, Any]:
    """The space that a model's settings classes offer."""
    found: dict[str, Any] = {}
    for settings in settings_classes(config, spec):
        found = {**settings.searched(config), **found}
    return found


def _plugin_keys(entry: Entry) -> set[str]:
    """The keys whose values to search are a plugin's; this package's own are known to be valid."""
    classes = settings_classes(entry.config, entry.config.spec)
    theirs = [own for own in classes if own.__module__.partition(".")[0] != PACKAGE.name]
    return {key for own in theirs for key in own.searched(entry.config)}


def _check_offered(key: str, where: Any, entry: Entry) -> None:
    """Refuse values to search, declared with a model's keys, that no trial could take."""
    _check_known("search_space", key, entry)
    check_form(entry.label, key, where)
    values = _probe_values(where.low, where.high) if isinstance(where, Between) else where
    more = "; list whole numbers as (1, 2, 3)" if isinstance(where, Between) else ""
    try:
        _parse_values(key, values, entry)
    except ValueError as error:
        raise ValueError(
            f"search_space: {error}{more}; or set --{key}, which is not searched then"
        ) from None


def check_form(label: str, key: str, where: object) -> None:
    """Refuse what is neither choices nor a range, in the `search_space` of the model `label`."""
    ordered = not isinstance(where, Between) or 0 < where.low < where.high
    if not isinstance(where, (Between, tuple, list)) or where in ((), []) or not ordered:
        raise ValueError(
            f"search_space: {label}: {key}: expected (a, b) or Between, the lower end first, "
            f"got {where!r}"
        )


def _check_known(what: str, key: str, entry: Entry) -> None:
    """Refuse a key that is unknown, and one that is no setting of the model."""
    marks = key_marks()[key]
    if marks & Mark.PART_OF_PROTOCOL or key in _ALIKE:
        raise ValueError(
            f"{what}: {key} says how models are judged, and on which data: trials that differ in "
            f"it cannot be compared; give one value with --{key}"
        )
    if marks & Mark.NO_EFFECT_ON_RESULTS or key == "seed":
        raise ValueError(
            f"{what}: {key} says where and how a run is done, and is no setting of a model"
        )
    check_searched(f"{what}: {entry.label}", [key], entry.config, entry.config.spec)


def _parse_values(key: str, values: Iterable[object], entry: Entry) -> list[Any]:
    """Values as the configuration reads them; invalid ones are refused here, not in a trial."""
    return [entry.with_own({key: value}).config[key] for value in values]


def _probe_values(low: float, high: float) -> tuple[float, ...]:
    """The ends of a range, and a fractional number between them, which a key of whole numbers
    refuses."""
    return low, high, low + (high - low) / math.pi


def _parse_part(text: str, entry: Entry, offered: Space) -> tuple[str, Any]:
    """``key``, ``key=[a,b]`` or ``key=low..high``."""
    key, given, where = (part.strip() for part in text.partition("="))
    if entry.is_set(key):
        raise ValueError(f"search: {key} is set to {entry.config[key]}; leave out --{key}")
    if not given:
        if key not in offered:
            if key in entry.config:
                raise ValueError(f"search: {key}: say where, such as --search='{key}=[…,…]'")
            raise unknown_name_error("search: the key", key, offered)
        _check_offered(key, offered[key], entry)
        return key, offered[key]
    _check_known("search", key, entry)
    ends = _parse_range(where)
    values = _parse_choices(key, where) if ends is None else _probe_values(*ends)
    try:
        taken = _parse_values(key, values, entry)
    except ValueError as error:
        more = "" if ends is None else "; list whole numbers as [1,2,3]"
        raise ValueError(f"search: {error}{more}") from None
    return key, tuple(taken) if ends is None else Between(*map(float, ends))


def _parse_range(text: str) -> tuple[float, float] | None:
    low, dots, high = text.partition("..")
    ends = parse_literal(low), parse_literal(high)
    if not dots or not all(isinstance(end, (int, float)) for end in ends):
        return None
    if not 0 < ends[0] < ends[1]:
        raise ValueError(f"search: expected a range above 0, the lower end first, got {text}")
    return ends


def _parse_choices(key: str, text: str) -> tuple[Any, ...]:
    values = parse_literal(text)
    if not isinstance(values, (list, tuple)) or not values:
        raise ValueError(f"search: {key}: expected [a,b] or low..high, got {text}")
    return tuple(values)


def defaults(space: Space, config: Mapping[str, Any]) -> dict[str, Any]:
    """The configured values that lie in the space; for a value outside its range, such as one that
    the model chooses, the geometric middle of the range."""
    found: dict[str, Any] = {}
    for key, where in space.items():
        value = config[key]
        if isinstance(where, Between):
            inside = isinstance(value, (int, float)) and where.low <= value <= where.high
            found[key] = float(value) if inside else math.sqrt(where.low * where.high)
        elif value in where:
            found[key] = str(where[where.index(value)])  # 0 stands for 0.0, too
    return found


def describe_untried_defaults(space: Space, config: Mapping[str, Any]) -> list[str]:
    """Messages about the keys whose configured value no trial will have."""
    return [
        f"{key}: its value {config[key]} is not among {', '.join(map(str, where))}; no trial has it"
        for key, where in space.items()
        if not isinstance(where, Between) and config[key] not in where
    ]


def distributions(space: Space) -> dict[str, Any]:
    """The space in Optuna's form; choices become texts, since Optuna does not store all types."""
    from optuna.distributions import CategoricalDistribution, FloatDistribution

    return {
        key: FloatDistribution(where.low, where.high, log=True)
        if isinstance(where, Between)
        else CategoricalDistribution([str(choice) for choice in where])
        for key, where in space.items()
    }
