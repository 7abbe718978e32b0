"""Types of settings in words: "a number of at least 0 and below 1", for errors and listings."""

from __future__ import annotations

import types
from collections.abc import Iterable
from itertools import chain
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from annotated_types import Ge, Gt, Le, Lt, MaxLen, MinLen
from pydantic import BaseModel
from pydantic.fields import FieldInfo

_WORDS = {
    bool: "True or False",
    int: "an integer",
    float: "a number",
    str: "a text",
    dict: "a dict",
}
_BOUNDS = {Ge: "of at least", Gt: "above", Le: "at most", Lt: "below"}


def type_name(field: FieldInfo) -> str:
    """The allowed values of a field, in words."""
    return _named(field.annotation, field.metadata)


def is_text(field: FieldInfo) -> bool:
    """Whether a field takes only texts, or texts and None."""
    parts = type_name(field).removesuffix(" or None")
    return parts == _WORDS[str] or parts.startswith(f"{_WORDS[str]} that is not")


def choices(field: FieldInfo) -> list[str]:
    """The names that a field may have if it is a choice; else an empty list."""
    return [str(choice) for choice in _literals(field.annotation)]


def _named(annotation: Any, metadata: Iterable[Any] = ()) -> str:
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return _named(arguments[0], [*arguments[1:], *metadata])
    if origin in (Union, types.UnionType):
        return " or ".join(dict.fromkeys(_named(part, metadata) for part in arguments))
    if origin is Literal:
        names = ", ".join(map(str, arguments))
        return f"one of {names}" if len(arguments) > 1 else names
    if origin is list:
        return f"a list {_bounds(metadata)}".strip() + f", each {_named(arguments[0])}"
    if origin is dict and arguments[1] in _WORDS:
        return f"a dict {_bounds(metadata)}".strip() + f", each value {_WORDS[arguments[1]]}"
    if origin is dict or (isinstance(annotation, type) and issubclass(annotation, BaseModel)):
        return "a dict"
    if annotation is type(None):
        return "None"
    return f"{_WORDS.get(annotation, 'a value')} {_bounds(metadata)}".strip()


def _bounds(metadata: Iterable[Any]) -> str:
    """Constraints in words, those inside pydantic's ``Field`` too."""
    parts = (part.metadata if isinstance(part, FieldInfo) else [part] for part in metadata)
    words = []
    for part in chain.from_iterable(parts):
        if isinstance(part, MinLen):
            least = part.min_length
            words.append("that is not empty" if least == 1 else f"no shorter than {least}")
        if isinstance(part, MaxLen):
            most = part.max_length
            exact = words == [f"no shorter than {most}"]
            words = [f"of {most}"] if exact else [*words, f"no longer than {most}"]
        for kind, word in _BOUNDS.items():
            if isinstance(part, kind):
                words.append(f"{word} {getattr(part, kind.__name__.lower())}")
    return " and ".join(words)


def _literals(annotation: object) -> list[Any]:
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Literal:
        return list(arguments)
    inside = arguments if origin in (Annotated, list, Union, types.UnionType) else ()
    return [choice for part in inside for choice in _literals(part)]
