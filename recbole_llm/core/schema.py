"""What keys and values a configuration may have, read from RecBole's files and ours."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import recbole
import yaml

RECBOLE = Path(recbole.__file__).parent
_TYPES: dict[str, tuple[type, ...]] = {
    "bool": (bool,),
    "int": (int,),
    "float": (float, int),
    "str": (str, int, float),
    "list": (list, tuple),
    "tuple": (list, tuple),
    "dict": (dict,),
}
# RecBole's models that read columns of the items by name, and their key for these.
ITEM_FEATURES = {
    **dict.fromkeys(("SASRecF", "GRU4RecF", "FDSA"), "selected_features"),
    "S3Rec": "item_attribute",
}


def parse_command_line(argv: Iterable[str]) -> dict[str, str]:
    """``["--key=value", ...]`` as a dict of strings.

    Raises:
        ValueError: an argument of another form, or a key given twice with different values.
    """
    pairs: dict[str, str] = {}
    for argument in argv:
        key, separator, value = argument.removeprefix("--").partition("=")
        if not argument.startswith("--") or not separator or not key:
            raise ValueError(f"argument '{argument}' is not of the form --key=value")
        if pairs.get(key, value) != value:
            raise ValueError(f"--{key} is given twice: '{pairs[key]}' and '{value}'")
        pairs[key] = value
    return pairs


def item_features(model: str, settings: Any) -> list[str]:
    """The columns of the items that a model reads by name; settings, a configuration or a dict."""
    key = ITEM_FEATURES.get(model)
    value = None if key is None else settings[key]
    return [value] if isinstance(value, str) else list(value or ())


def parse_literal(text: str) -> Any:
    """A Python literal (number, list, dict, None, True …) if ``text`` is one, else ``text``."""
    if text.lower() in ("true", "false"):
        return text.lower() == "true"
    try:
        return ast.literal_eval(text)
    except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError):
        return text


def is_a(value: Any, types: Sequence[str]) -> bool:
    """Whether a value is of one of the types that a comment names.

    True and False are bools only; 0 and 1 are bools too, as RecBole's files use them.
    """
    allowed = tuple(t for name in types for t in _TYPES[name])
    if "str" in types and isinstance(value, (list, tuple)) and list not in allowed:
        return all(isinstance(part, (int, float)) for part in value)  # gpu_id: 0,1
    if bool in allowed and value in (0, 1):
        return True
    return isinstance(value, allowed) and not isinstance(value, bool)


@cache
def declared_types(files: tuple[Path, ...]) -> dict[str, tuple[str, ...]]:
    """Types by key, from the comments ``key: value  # (int or list) meaning`` of YAML files."""
    pattern = re.compile(r"^(\w+):(.*?)#\s*\(([^)]*)\)", re.M)
    types: dict[str, tuple[str, ...]] = {}
    for file in files:
        for key, default, comment in pattern.findall(file.read_text(encoding="utf-8")):
            names = [word.split(" of ")[0].strip() for word in re.split(r"\bor\b|[,/|]", comment)]
            # A comment that names anything else than these types declares nothing.
            named = [n for n in names if n != "None"]
            types[key] = tuple(named) if all(n in _TYPES for n in named) else ()
            value = _yaml_value(default)
            if value is not None and types[key] and not is_a(value, types[key]):
                types[key] = ()  # some of RecBole's comments are wrong of their own defaults
    return types


def _yaml_value(text: str) -> Any:
    value = yaml.safe_load(text)
    return parse_literal(value) if isinstance(value, str) else value  # 1e-12 is text to YAML 1.1


@cache
def recbole_keys() -> frozenset[str]:
    """Every key that RecBole's files declare or its code reads."""
    keys = {"model", "dataset", "config_files", "nproc", "world_size", "ip", "port"}
    for file in RECBOLE.rglob("*.yaml"):
        keys.update(re.findall(r"^(\w+):", file.read_text(encoding="utf-8"), re.M))
    for file in RECBOLE.rglob("*.py"):
        code = file.read_text(encoding="utf-8")
        keys.update(re.findall(r"config(?:\.get\(|\[)\s*[\"'](\w+)[\"']", code))
    from recbole.utils import argument_list

    for name in vars(argument_list):
        if name.endswith("_arguments"):
            keys.update(getattr(argument_list, name))
    return frozenset(keys)
