"""Conditions on the fields of items, such as ``category == 'tea' and price < 5``.

An expression is parsed, never evaluated: names of fields, texts, numbers and lists of these,
compared by ``== != < <= > >=``, ``in`` and ``not in``, joined by ``and``, ``or`` and ``not``. A
field whose name is a keyword, or has spaces, stands in backquotes.

>>> match_items("category == 'tea' and price < 5", {"category": ["tea", ""], "price": ["3", "9"]})
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
import pandas as pd

from recbole_llm.core.arrays import BoolArray
from recbole_llm.core.errors import one_line, unknown_name_error

Fields = Mapping[str, Sequence[str]]
_MAX_LENGTH = 10_000  # characters
# Backquotes in texts are part of them.
_BACKQUOTED = re.compile(r"""('(?:\\.|[^'\\])*'|"(?:\\.|[^"\\])*")|`([^`]+)`""")
_OPERATORS: dict[type[ast.cmpop], Callable[[Any, Any], Any]] = {
    ast.Eq: operator.eq, ast.NotEq: operator.ne, ast.Lt: operator.lt, ast.LtE: operator.le,
    ast.Gt: operator.gt, ast.GtE: operator.ge,
}  # fmt: skip


def match_items(expression: str, fields: Fields) -> BoolArray:
    """The mask of items for which an expression holds, bool [n].

    A field is read as numbers if it is compared with a number, or with another field and both hold
    only numbers; values that are no numbers then never match. Otherwise it is read as text.
    ``'tea' in category`` asks whether the field contains the text, and
    ``category in ['tea', 'mug']`` whether it is one of the texts.

    Args:
        fields: {name: value of each item}.

    Raises:
        ValueError: an expression of another form, or an unknown field.
    """
    if not isinstance(expression, str) or len(expression) > _MAX_LENGTH:
        raise _refusal(f"expected a text of at most {_MAX_LENGTH:,} characters")
    try:
        return _evaluate(_parse(expression.strip()), fields)
    except (SyntaxError, RecursionError, MemoryError, OverflowError) as error:
        reason = getattr(error, "msg", type(error).__name__)
        raise _refusal(f"cannot be read ({reason}); {_suggest_fix(expression, fields)}") from None


def _suggest_fix(expression: str, fields: Fields) -> str:
    """Name the field that a keyword may mean, by its own name or the name that `convert` gives it;
    else list the usual mistakes."""
    for word in re.findall(r"\w+", _BACKQUOTED.sub(" ", expression)):
        if keyword.iskeyword(word) and word in fields:
            return f"the field '{word}' stands in backquotes, since its name is a keyword"
        if keyword.iskeyword(word) and f"{word}_" in fields:
            return f"'{word}' is a keyword; the field's name is '{word}_'"
    return (
        "equality is ==, and a field whose name is a keyword, or has spaces, stands in backquotes"
    )


def _parse(expression: str) -> ast.expr:
    """Parse an expression into a tree, with backquoted names replaced by the fields' own."""
    names: dict[str, str] = {}

    def replace_name(match: re.Match[str]) -> str:
        text, name = match.groups()
        if text is not None:
            return str(text)
        placeholder = f"_backquoted_{len(names)}"
        names[placeholder] = name
        return placeholder

    tree = ast.parse(_BACKQUOTED.sub(replace_name, expression), mode="eval").body
    for node in ast.walk(tree):
        if isinstance(node, ast.Name):
            node.id = names.get(node.id, node.id)
    return tree


def _refusal(reason: str) -> ValueError:
    return ValueError(f"where: {reason}; write, for example, \"category == 'tea' and price < 5\"")


def _evaluate(node: ast.expr, fields: Fields) -> BoolArray:
    if isinstance(node, ast.BoolOp):
        join = np.logical_and if isinstance(node.op, ast.And) else np.logical_or
        return join.reduce([_evaluate(part, fields) for part in node.values])
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not):
        return ~_evaluate(node.operand, fields)
    if isinstance(node, ast.Compare):
        sides = [node.left, *node.comparators]
        pairs = zip(sides, node.ops, sides[1:])
        return np.logical_and.reduce([_compare(*pair, fields) for pair in pairs])
    raise _refusal(f"'{ast.unparse(node)}' is no comparison")


def _compare(left: ast.expr, operation: ast.cmpop, right: ast.expr, fields: Fields) -> BoolArray:
    a, b = _read_value(left, fields), _read_value(right, fields)
    if not isinstance(a, np.ndarray) and not isinstance(b, np.ndarray):
        raise _refusal(f"neither {ast.unparse(left)} nor {ast.unparse(right)} is a field")
    if isinstance(operation, (ast.In, ast.NotIn)):
        return _is_in(a, b) == isinstance(operation, ast.In)
    compare = _OPERATORS.get(type(operation))
    if compare is None or isinstance(a, list) or isinstance(b, list):
        raise _refusal("a list goes with 'in', all else with == != < <= > >=")
    if not isinstance(operation, (ast.Eq, ast.NotEq)):
        _check_order(left, a, b)
        _check_order(right, b, a)
    is_text = isinstance(a, str) or isinstance(b, str)  # reading a column as numbers is slow
    if is_text or not (_is_number(a) or _is_number(b) or (_is_numeric(a) and _is_numeric(b))):
        return np.asarray(compare(a, b), bool)
    a, b = _to_numbers(a), _to_numbers(b)
    return compare(a, b) & np.isfinite(a) & np.isfinite(b)


def _check_order(node: ast.expr, column: Any, other: Any) -> None:
    """Refuse to put a field in order with a value of another kind."""
    if not isinstance(column, np.ndarray) or isinstance(other, np.ndarray):
        return
    numbers = np.isfinite(_to_numbers(column)).any()
    if isinstance(other, str) and numbers:
        raise _refusal(f"a field of numbers is compared with the text '{other}'")
    text = next((text for text in column if text.strip()), None)
    if _is_number(other) and not numbers and text is not None:
        raise ValueError(
            f"where: '{ast.unparse(node)}' holds texts such as '{one_line(text, 40)}', not "
            f"numbers, so that < and > cannot compare it with {other:g}"
        )


def _read_value(node: ast.expr, fields: Fields) -> Any:
    """Read a field's column, a text, a number, or a list of these."""
    if isinstance(node, ast.Name):
        if node.id not in fields:
            error = unknown_name_error("where: the field", node.id, fields)
            raise ValueError(f"{error}; a text stands in quotes: '{node.id}'")
        return np.array(fields[node.id], dtype=object)
    if isinstance(node, (ast.List, ast.Tuple)):
        return [_read_value(part, {}) for part in node.elts]
    with suppress(ValueError):
        value = ast.literal_eval(node)
        if isinstance(value, str) or _is_number(value):
            return value
    raise _refusal(f"'{ast.unparse(node)}' is no field, text, number or list")


def _is_in(a: Any, b: Any) -> BoolArray:
    """Evaluate `a in b`: a text in a field, or a field in a list."""
    if isinstance(a, str) and isinstance(b, np.ndarray):
        return np.array([a in text for text in b], bool)
    if isinstance(a, np.ndarray) and isinstance(b, list):
        texts = {str(value) for value in b}
        is_in = np.array([text in texts for text in a], bool)
        numbers = [float(value) for value in b if _is_number(value)]
        return is_in | np.isin(_to_numbers(a), numbers) if numbers else is_in
    raise _refusal("'in' asks for a text in a field, or for a field in a list")


def _is_numeric(value: Any) -> bool:
    """Whether a column has numbers, and no other texts."""
    if not isinstance(value, np.ndarray):
        return False
    numbers = np.isfinite(_to_numbers(value))
    return bool(numbers.any()) and not any(text.strip() for text in value[~numbers])


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _to_numbers(value: Any) -> Any:
    """Turn a column into float64, with NaN where it has no number; a number stays as it is."""
    if not isinstance(value, np.ndarray):
        return float(value)
    return np.asarray(pd.to_numeric(value, errors="coerce"), np.float64)
