"""jinja2's sandbox with an end: no template loops, grows or computes beyond a budget.

The stock sandbox keeps templates from Python's internals, not from ``{{ 'x' * 10**9 }}`` or nested
loops. Here every rendering has a budget, which loop steps, strings and lists that it makes spend:
there is no clock and no thread, so what ends, ends everywhere alike.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sized
from functools import wraps
from typing import Any

from jinja2 import Undefined, nodes
from jinja2.runtime import Context
from jinja2.sandbox import ImmutableSandboxedEnvironment

MAX_WORK = 200_000  # characters made, list entries made and syntax nodes of loop steps
MAX_ENTRIES = 10_000  # of a list that a template makes
MAX_COMPARED = 10_000_000  # product of the lengths of a string and of what is sought in it
_MAX_BITS = 10_000  # of an integer
_BODIES: tuple[type[nodes.Node], ...] = (
    nodes.For,
    nodes.Macro,
    nodes.CallBlock,
    nodes.Block,
    nodes.FilterBlock,
)
_LITERALS = (nodes.List, nodes.Tuple, nodes.Dict)
# Their results have any length whatever the string is; the filters of the same names are bounded.
_METHODS = frozenset(
    ("center", "ljust", "rjust", "zfill", "expandtabs", "format", "format_map", "replace", "join",
     "translate", "encode", "to_bytes")
)  # fmt: skip
# Of no bounded length, or (random) of no lasting meaning: texts are keys of what is stored.
_LEFT_OUT = ("format", "random", "batch", "slice", "pprint", "xmlattr", "urlize", "attr")
# Filters whose result may be as long as the product of what they are given.
_MULTIPLY = ("center", "indent", "replace", "wordwrap", "tojson", "round")


class LimitError(Exception):
    """A template that asks for more than the sandbox gives."""


class BoundedSandbox(ImmutableSandboxedEnvironment):
    """An environment whose `budget` is set before each compilation and rendering.

    Args:
        undefined: class of what a template asks for and is not there.
    """

    intercepted_binops = frozenset(("+", "*", "**", "%"))

    def __init__(self, undefined: type[Undefined]) -> None:
        super().__init__(
            undefined=undefined, autoescape=False, keep_trailing_newline=False, optimized=False
        )
        self.budget = MAX_WORK
        self.globals["range"] = self._range
        self.globals.pop("lipsum")
        for name in _LEFT_OUT:
            self.filters.pop(name)
        self.filters = {name: self._bounded(name, f) for name, f in self.filters.items()}

    def bounded(self, tree: nodes.Template) -> nodes.Template:
        """The tree with every loop step, literal and ``~`` counted."""
        for node in tree.find_all(_BODIES):
            cost = nodes.Const(sum(1 for _ in node.find_all(nodes.Node)))
            getattr(node, "body").insert(0, nodes.ExprStmt(_call("spend", [cost])))
        _rewrite(tree)
        tree.set_environment(self)
        return tree

    def spend(self, amount: int) -> None:
        """Take from the budget; LimitError when it is used up."""
        self.budget -= amount
        if self.budget < 0:
            raise LimitError(
                f"it makes more than {MAX_WORK:,} characters and loop steps; shorten it"
            )

    def made(self, value: object) -> Any:
        """A value that the template has made, paid for."""
        if isinstance(value, str):
            self.spend(len(value))
        elif isinstance(value, (list, tuple, dict, set)):
            self.spend(1 + len(value))
            if len(value) > MAX_ENTRIES:
                raise LimitError(f"it makes a list of more than {MAX_ENTRIES:,} entries")
            for part in value.values() if isinstance(value, dict) else value:
                self.made(part)
        return value

    def concat(self, parts: Iterable[str]) -> str:
        """Joins what a template, a macro or a block prints."""
        out = []
        for part in parts:
            self.spend(len(part))
            out.append(part)
        return "".join(out)

    def call_binop(self, context: Context, operator: str, left: object, right: object) -> Any:
        """The intercepted operators, refused before they make too much."""
        if operator == "%" and isinstance(left, (str, bytes)):
            raise LimitError("'%' does not format here; use ~ to join texts")
        if operator == "**":
            _check_bits(_bits(left) * abs(right) if isinstance(right, int) else 0)
        elif operator == "*":
            _check_bits(_bits(left) + _bits(right))
            for value, times in ((left, right), (right, left)):
                if isinstance(value, Sized) and isinstance(times, int):
                    self.spend(len(value) * max(times, 0))
        return self.made(super().call_binop(context, operator, left, right))

    def call(__self, __context: Context, __obj: object, *args: object, **kwargs: object) -> Any:  # noqa: N805
        """Calls of functions and methods, their results paid for."""
        own = getattr(__obj, "__self__", None)
        if isinstance(own, str):
            _check_product(own, args)
        return __self.made(super().call(__context, __obj, *args, **kwargs))

    def is_safe_attribute(self, obj: object, attr: str, value: object) -> bool:
        """Whether a template may read an attribute; not methods of unbounded results."""
        unbounded = attr in _METHODS and isinstance(obj, (str, bytes, int))
        return not unbounded and super().is_safe_attribute(obj, attr, value)

    def wrap_str_format(self, value: object) -> Callable[..., str] | None:
        """``format`` is no exception among the methods."""
        return None

    def unsafe_undefined(self, obj: object, attribute: str) -> Undefined:
        """Refuse at once, with the reason."""
        raise LimitError(f"'{attribute}' of a {type(obj).__name__} is not allowed")

    def _range(self, *args: int) -> range:
        numbers = range(*args)
        if len(numbers) > MAX_ENTRIES:
            raise LimitError(f"range() gives at most {MAX_ENTRIES:,} numbers")
        self.spend(len(numbers))
        return numbers

    def _bounded(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        passed = 1 if hasattr(function, "jinja_pass_arg") else 0  # the context or environment

        @wraps(function)
        def call(*args: object, **kwargs: object) -> Any:
            given = (*args[passed:], *kwargs.values())
            self.spend(sum(len(a) for a in given if isinstance(a, (list, tuple, dict, range))))
            if name == "join":
                given = self._joined(*given)
                args = (*args[:passed], given[0], *args[passed + 1 :])
            elif name == "round" and any(isinstance(a, int) and abs(a) > 100 for a in given[1:]):
                raise LimitError("round() gives at most 100 digits")
            elif name == "sum" and any(isinstance(a, (list, tuple)) for a in given[1:]):
                raise LimitError("sum() adds numbers only")
            elif isinstance(given[0], str):
                _check_product(given[0], given[1:], name in _MULTIPLY)
            elif name in _MULTIPLY:
                self.made(given[0])
                _check_product(str(given[0]), given[1:], True)
            return self.made(function(*args, **kwargs))

        return call

    def _joined(self, values: Any, separator: Any = "", *more: Any) -> tuple[Any, ...]:
        parts = list(values)
        longest = len(separator) if isinstance(separator, str) else 0
        self.spend(sum(len(p) for p in parts if isinstance(p, Sized)) + longest * len(parts))
        return (parts, separator, *more)


def _call(name: str, arguments: list[nodes.Expr]) -> nodes.Call:
    return nodes.Call(nodes.EnvironmentAttribute(name), arguments, [], None, None)


def _rewrite(node: nodes.Node) -> None:
    """Replace literals and ``~`` below a node by what the environment sees."""
    for field, value in node.iter_fields():
        if isinstance(value, nodes.Node):
            setattr(node, field, _rewritten(value))
        elif isinstance(value, list):
            value[:] = [_rewritten(v) if isinstance(v, nodes.Node) else v for v in value]


def _rewritten(node: nodes.Node) -> nodes.Node:
    _rewrite(node)
    if isinstance(node, _LITERALS) and getattr(node, "ctx", "load") == "load":
        return _call("made", [node])
    if isinstance(node, nodes.Concat):
        texts = [nodes.Filter(part, "string", [], [], None, None) for part in node.nodes]
        total: nodes.Expr = texts[0]
        for text in texts[1:]:
            total = nodes.Add(total, text)
        return total
    return node


def _bits(value: object) -> int:
    return value.bit_length() if isinstance(value, int) else 0


def _check_bits(bits: int) -> None:
    if bits > _MAX_BITS:
        raise LimitError("it computes with numbers that are too large")


def _check_product(text: str, given: Iterable[Any], multiplies: bool = False) -> None:
    """Refuse work, or a result, of the product of two lengths."""
    for value in given:
        size = len(value) if isinstance(value, str) else 1
        if multiplies and isinstance(value, int):
            size = abs(value)
        if size * max(1, len(text)) > MAX_COMPARED:
            raise LimitError("it works on texts that are too long")
