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
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd

from recbole_llm.core.arrays import BoolArray, FloatArray
from recbole_llm.core.errors import one_line, unknown_name_error

Fields = Mapping[str, Sequence[str]]
_MAX_LENGTH = 10_000  # characters
# Backquotes in texts are part of them.
_BACKQUOTED = re.compile(r"""('(?:\\.|[^'\\])*'|"(?:\\.|[^"\\])*")|`([^`]+)`""")
_OPERATORS: dict[type[ast.cmpop], Callable[[Any, Any], Any]] = {
    ast.Eq: operator.eq, ast.NotEq: operator.ne, ast.Lt: operator.lt, ast.LtE: operator.le,
    ast.Gt: operator.gt, ast.GtE: operator.ge,
}  # fmt: skip


class _Column:
    """A field's texts, object [n], which are read as numbers at most once, since that is slow."""

    def __init__(self, texts: Sequence[str]) -> None:
        self.texts = np.array(texts, dtype=object)

    @cached_property
    def numbers(self) -> FloatArray:
        """The numbers, NaN where a text is none, float64 [n]."""
        return np.asarray(pd.to_numeric(self.texts, errors="coerce"), np.float64)

    @cached_property
    def has_numbers(self) -> bool:
        """Whether there is a finite number."""
        return bool(np.isfinite(self.numbers).any())

    @cached_property
    def has_only_numbers(self) -> bool:
        """Whether there are numbers, and no other texts."""
        others = self.texts[~np.isfinite(self.numbers)]
        return self.has_numbers and not any(text.strip() for text in others)


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
    if not isinstance(a, _Column) and not isinstance(b, _Column):
        raise _refusal(f"neither {ast.unparse(left)} nor {ast.unparse(right)} is a field")
    if isinstance(operation, (ast.In, ast.NotIn)):
        return _is_in(a, b) == isinstance(operation, ast.In)
    compare = _OPERATORS.get(type(operation))
    if compare is None or isinstance(a, list) or isinstance(b, list):
        raise _refusal("a list goes with 'in', all else with == != < <= > >=")
    if not isinstance(operation, (ast.Eq, ast.NotEq)):
        _check_order(left, a, b)
        _check_order(right, b, a)
    with_text = isinstance(a, str) or isinstance(b, str)
    with_number = _is_number(a) or _is_number(b)
    if with_text or not (with_number or (a.has_only_numbers and b.has_only_numbers)):
        return np.asarray(compare(_texts_of(a), _texts_of(b)), bool)
    a, b = _numbers_of(a), _numbers_of(b)
    return np.asarray(compare(a, b) & np.isfinite(a) & np.isfinite(b), bool)


def _check_order(node: ast.expr, column: Any, other: Any) -> None:
    """Refuse to put a field in order with a value of another kind."""
    if not isinstance(column, _Column) or isinstance(other, _Column):
        return
    if isinstance(other, str) and column.has_numbers:
        raise _refusal(f"a field of numbers is compared with the text '{other}'")
    text = next((text for text in column.texts if text.strip()), None)
    if _is_number(other) and not column.has_numbers and text is not None:
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
        return _Column(fields[node.id])
    if isinstance(node, (ast.List, ast.Tuple)) and fields:
        # Without fields, since a list holds neither fields nor lists.
        return [_read_value(part, {}) for part in node.elts]
    with suppress(ValueError, TypeError):  # TypeError: {[]}
        value = ast.literal_eval(node)
        if isinstance(value, str) or _is_number(value):
            return value
    raise _refusal(f"'{ast.unparse(node)}' is no field, text, number or list")


def _is_in(a: Any, b: Any) -> BoolArray:
    """Evaluate `a in b`: a text in a field, or a field in a list."""
    if isinstance(a, str) and isinstance(b, _Column):
        return np.array([a in text for text in b.texts], bool)
    if isinstance(a, _Column) and isinstance(b, list):
        texts = {str(value) for value in b}
        is_in = np.array([text in texts for text in a.texts], bool)
        numbers = [float(value) for value in b if _is_number(value)]
        return is_in | np.isin(a.numbers, numbers) if numbers else is_in
    raise _refusal("'in' asks for a text in a field, or for a field in a list")


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _texts_of(value: Any) -> Any:
    return value.texts if isinstance(value, _Column) else value


def _numbers_of(value: Any) -> Any:
    return value.numbers if isinstance(value, _Column) else float(value)
