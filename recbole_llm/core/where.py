"""Conditions on the fields of items, such as ``category == 'tea' and price < 5``.

An expression is parsed, never evaluated: names of fields, texts, numbers and lists of these,
compared by ``== != < <= > >=``, ``in`` and ``not in``, joined by ``and``, ``or`` and ``not``. A
field whose name is a keyword, or has spaces, stands in backquotes.

>>> matching("category == 'tea' and price < 5", {"category": ["tea", "ware"], "price": ["3", "9"]})
array([ True, False])
"""

from __future__ import annotations

import ast
import keyword
import re
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from recbole_llm.core.errors import one_line, unknown

Mask = npt.NDArray[np.bool_]
_LONGEST = 10_000  # characters
# Backquotes in texts are part of them.
_BACKQUOTED = re.compile(r"""('(?:\\.|[^'\\])*'|"(?:\\.|[^"\\])*")|`([^`]+)`""")
_ONE_SIGN = re.compile(r"(?<![=!<>])=(?!=)")
_ORDER: dict[type[ast.cmpop], Callable[[Any, Any], Any]] = {
    ast.Lt: np.less,
    ast.LtE: np.less_equal,
    ast.Gt: np.greater,
    ast.GtE: np.greater_equal,
}


def matching(expression: str, fields: Mapping[str, Sequence[str]]) -> Mask:
    """Which items an expression holds for, bool [n].

    A field compared with a number, or with another field where both hold numbers alone, is read as
    numbers (what is none never matches), else as text.
    ``'tea' in category`` asks whether the field has the text, ``category in ['tea', 'mug']``
    whether it is one of them.

    Args:
        expression: the condition.
        fields: {name: value of each item}.

    Raises:
        ValueError: an expression of another form, or an unknown field.
    """
    if not isinstance(expression, str):
        raise _wrong(f"expected a text, got {expression!r}")
    try:
        if len(expression) > _LONGEST:
            raise _wrong(f"longer than {_LONGEST:,} characters")
        return _mask(_parsed(expression.strip()), fields)
    except (SyntaxError, RecursionError, MemoryError, OverflowError) as error:
        reason = getattr(error, "msg", type(error).__name__)
        once = "; equality is ==" if _ONE_SIGN.search(expression) else ""
        words = [f"`{name}`" for name in fields if keyword.iskeyword(name) and name in expression]
        quote = f"; a field of that name stands in backquotes: {words[0]}" if words else ""
        raise _wrong(f"cannot be read ({reason}){once}{quote}") from None


def _parsed(expression: str) -> ast.expr:
    """The expression's tree, in which names that stand in backquotes are as they are."""
    names: dict[str, str] = {}

    def plain(found: re.Match[str]) -> str:
        text, name = found.groups()
        if text is not None:
            return str(text)
        own = f"_backquoted_{len(names)}"
        names[own] = name
        return own

    tree = ast.parse(_BACKQUOTED.sub(plain, expression), mode="eval").body
    for node in ast.walk(tree):
        if isinstance(node, ast.Name):
            node.id = names.get(node.id, node.id)
    return tree


def _wrong(what: str) -> ValueError:
    return ValueError(f"where: {what}; write such as \"category == 'tea' and price < 5\"")


def _mask(node: ast.expr, fields: Mapping[str, Sequence[str]]) -> Mask:
    if isinstance(node, ast.BoolOp):
        join = np.logical_and if isinstance(node.op, ast.And) else np.logical_or
        parts = [_mask(part, fields) for part in node.values]
        return join.reduce(parts)
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not):
        return ~_mask(node.operand, fields)
    if isinstance(node, ast.Compare):
        sides = [node.left, *node.comparators]
        found = [
            _compared(left, operator, right, fields)
            for left, operator, right in zip(sides, node.ops, sides[1:])
        ]
        return np.logical_and.reduce(found)
    raise _wrong(f"'{ast.unparse(node)}' is no comparison")


def _compared(
    left: ast.expr, operator: ast.cmpop, right: ast.expr, fields: Mapping[str, Sequence[str]]
) -> Mask:
    size = len(next(iter(fields.values()), ()))
    a, b = _value(left, fields), _value(right, fields)
    if not isinstance(a, np.ndarray) and not isinstance(b, np.ndarray):
        raise _wrong(f"{ast.unparse(left)} and {ast.unparse(right)} are both no field")
    if isinstance(operator, (ast.In, ast.NotIn)):
        inside = _inside(a, b, size)
        return ~inside if isinstance(operator, ast.NotIn) else inside
    if isinstance(a, list) or isinstance(b, list):
        raise _wrong("a list goes with 'in'")
    there: Any = True
    if _is_number(a) or _is_number(b) or (_of_numbers(a) and _of_numbers(b)):
        a, b = _numbers(a), _numbers(b)
        there = np.isfinite(a) & np.isfinite(b)
    if isinstance(operator, (ast.Eq, ast.NotEq)):
        same = np.equal(a, b) == isinstance(operator, ast.Eq)
        return np.broadcast_to(same & there, size).astype(bool)
    order = _ORDER.get(type(operator))
    if order is None:
        raise _wrong(f"'{type(operator).__name__}' is no comparison of values")
    _check_order(left, a, b, fields)
    _check_order(right, b, a, fields)
    return np.broadcast_to(order(a, b), size).astype(bool)


def _check_order(
    node: ast.expr, value: Any, other: Any, fields: Mapping[str, Sequence[str]]
) -> None:
    """Refuse to put a field in order with a value of another kind."""
    if not isinstance(value, np.ndarray) or isinstance(other, np.ndarray):
        return
    numbers = np.isfinite(_numbers(value)).any()
    if isinstance(other, str) and numbers:
        raise _wrong(f"a field of numbers is compared with the text '{other}'")
    name = ast.unparse(node)
    texts = (text for text in fields[name] if text.strip())
    if _is_number(other) and not numbers and (text := next(texts, None)):
        raise ValueError(
            f"where: '{name}' holds texts such as '{one_line(text, 40)}', not numbers, so that "
            f"< and > cannot compare it with {other:g}"
        )


def _value(node: ast.expr, fields: Mapping[str, Sequence[str]]) -> Any:
    """A field's column, a text, a number, or a list of these."""
    if isinstance(node, ast.Name):
        if node.id not in fields:
            error = unknown("where: the field", node.id, fields)
            raise ValueError(f"{error}; a text stands in quotes: '{node.id}'")
        return np.array(fields[node.id], dtype=object)
    if isinstance(node, (ast.List, ast.Tuple)):
        return [_value(part, {}) for part in node.elts]
    with suppress(ValueError):
        value = ast.literal_eval(node)
        if isinstance(value, str) or _is_number(value):
            return value
    raise _wrong(f"'{ast.unparse(node)}' is no field, text, number or list")


def _inside(a: Any, b: Any, size: int) -> Mask:
    if isinstance(b, list):
        texts = {str(value) for value in b}
        if not isinstance(a, np.ndarray):
            raise _wrong("a field is in a list")
        numbers = [float(value) for value in b if _is_number(value)]
        named = np.fromiter((str(text) in texts for text in a), bool, size)
        return named | np.isin(_numbers(a), numbers)
    if isinstance(a, str) and isinstance(b, np.ndarray):
        return np.fromiter((a in text for text in b), bool, size)
    raise _wrong("'in' asks for a text in a field, or for a field in a list")


def _of_numbers(value: Any) -> bool:
    """Whether a column has numbers, and no other texts."""
    if not isinstance(value, np.ndarray):
        return False
    numbers = np.isfinite(_numbers(value))
    return bool(numbers.any()) and not any(text.strip() for text in value[~numbers])


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _numbers(value: Any) -> Any:
    """A column as float64, NaN where it has no number; a number as it is."""
    if not isinstance(value, np.ndarray):
        if isinstance(value, str):
            raise _wrong(f"the text '{value}' is compared with a number")
        return float(value)
    return np.asarray(pd.to_numeric(value, errors="coerce"), np.float64)
