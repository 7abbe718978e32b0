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
import operator
import re
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from recbole_llm.core.errors import one_line, unknown

Mask = npt.NDArray[np.bool_]
Fields = Mapping[str, Sequence[str]]
_LONGEST = 10_000  # characters
# Backquotes in texts are part of them.
_BACKQUOTED = re.compile(r"""('(?:\\.|[^'\\])*'|"(?:\\.|[^"\\])*")|`([^`]+)`""")
_COMPARED: dict[type[ast.cmpop], Callable[[Any, Any], Any]] = {
    ast.Eq: operator.eq, ast.NotEq: operator.ne, ast.Lt: operator.lt, ast.LtE: operator.le,
    ast.Gt: operator.gt, ast.GtE: operator.ge,
}  # fmt: skip


def matching(expression: str, fields: Fields) -> Mask:
    """Which items an expression holds for, bool [n].

    A field compared with a number, or with another field where both hold numbers alone, is read as
    numbers (what is none never matches), else as text.
    ``'tea' in category`` asks whether the field has the text, ``category in ['tea', 'mug']``
    whether it is one of them.

    Args:
        fields: {name: value of each item}.

    Raises:
        ValueError: an expression of another form, or an unknown field.
    """
    if not isinstance(expression, str) or len(expression) > _LONGEST:
        raise _wrong(f"expected a text of at most {_LONGEST:,} characters")
    try:
        return _mask(_parsed(expression.strip()), fields)
    except (SyntaxError, RecursionError, MemoryError, OverflowError) as error:
        reason = getattr(error, "msg", type(error).__name__)
        raise _wrong(f"cannot be read ({reason}); {_way_out(expression, fields)}") from None


def _way_out(expression: str, fields: Fields) -> str:
    """The field that a keyword may mean, by its name or by the one that `convert` gives it; else
    what is often written otherwise."""
    for word in re.findall(r"\w+", _BACKQUOTED.sub(" ", expression)):
        if keyword.iskeyword(word) and word in fields:
            return f"the field '{word}' stands in backquotes, since its name is a keyword"
        if keyword.iskeyword(word) and f"{word}_" in fields:
            return f"'{word}' is a keyword; the field's name is '{word}_'"
    return (
        "equality is ==, and a field whose name is a keyword, or has spaces, stands in backquotes"
    )


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


def _mask(node: ast.expr, fields: Fields) -> Mask:
    if isinstance(node, ast.BoolOp):
        join = np.logical_and if isinstance(node.op, ast.And) else np.logical_or
        return join.reduce([_mask(part, fields) for part in node.values])
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not):
        return ~_mask(node.operand, fields)
    if isinstance(node, ast.Compare):
        sides = [node.left, *node.comparators]
        pairs = zip(sides, node.ops, sides[1:])
        return np.logical_and.reduce([_compared(*pair, fields) for pair in pairs])
    raise _wrong(f"'{ast.unparse(node)}' is no comparison")


def _compared(left: ast.expr, how: ast.cmpop, right: ast.expr, fields: Fields) -> Mask:
    a, b = _value(left, fields), _value(right, fields)
    if not isinstance(a, np.ndarray) and not isinstance(b, np.ndarray):
        raise _wrong(f"{ast.unparse(left)} and {ast.unparse(right)} are both no field")
    if isinstance(how, (ast.In, ast.NotIn)):
        return _inside(a, b) == isinstance(how, ast.In)
    compare = _COMPARED.get(type(how))
    if compare is None or isinstance(a, list) or isinstance(b, list):
        raise _wrong("a list goes with 'in', all else with == != < <= > >=")
    if not isinstance(how, (ast.Eq, ast.NotEq)):
        _check_order(left, a, b)
        _check_order(right, b, a)
    if not (_is_number(a) or _is_number(b) or (_of_numbers(a) and _of_numbers(b))):
        return np.asarray(compare(a, b), bool)
    a, b = _numbers(a), _numbers(b)
    return compare(a, b) & np.isfinite(a) & np.isfinite(b)


def _check_order(node: ast.expr, column: Any, other: Any) -> None:
    """Refuse to put a field in order with a value of another kind."""
    if not isinstance(column, np.ndarray) or isinstance(other, np.ndarray):
        return
    numbers = np.isfinite(_numbers(column)).any()
    if isinstance(other, str) and numbers:
        raise _wrong(f"a field of numbers is compared with the text '{other}'")
    text = next((text for text in column if text.strip()), None)
    if _is_number(other) and not numbers and text is not None:
        raise ValueError(
            f"where: '{ast.unparse(node)}' holds texts such as '{one_line(text, 40)}', not "
            f"numbers, so that < and > cannot compare it with {other:g}"
        )


def _value(node: ast.expr, fields: Fields) -> Any:
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


def _inside(a: Any, b: Any) -> Mask:
    if isinstance(a, str) and isinstance(b, np.ndarray):
        return np.array([a in text for text in b], bool)
    if isinstance(a, np.ndarray) and isinstance(b, list):
        numbers = [float(value) for value in b if _is_number(value)]
        return np.isin(a, [str(value) for value in b]) | np.isin(_numbers(a), numbers)
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
        return float(value)
    return np.asarray(pd.to_numeric(value, errors="coerce"), np.float64)
