"""Prompt templates: where they are found, and rendering that refuses unknown fields."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import jinja2
import jinja2.meta
from jinja2 import nodes
from jinja2.sandbox import ImmutableSandboxedEnvironment

from recbole_llm.core.errors import near_hint, one_line
from recbole_llm.core.files import expanded
from recbole_llm.core.plugins.registry import PROPERTIES

_FOLDER = PROPERTIES / "prompt"
_SUFFIX = ".jinja"
_OPTIONAL = ((nodes.Test, ("defined", "undefined")), (nodes.Filter, ("default", "d")))


class PromptError(ValueError):
    """A template that cannot be rendered, or fields that make no prompt."""


class _UnknownField(jinja2.UndefinedError):
    """A template uses a field that does not exist; the error's message is the field's name."""


class _StrictUndefined(jinja2.StrictUndefined):
    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._undefined_exception = _UnknownField

    @property
    def _undefined_message(self) -> str:
        return str(self._undefined_name)


class _Environment(ImmutableSandboxedEnvironment):
    """An environment in which ``item.values`` is the field ``values``, not a method of dict."""

    def getattr(self, obj: Any, attribute: str) -> Any:
        return self.getitem(obj, attribute)


def _refuse_method(value: Any) -> Any:
    """Refuse to print a method: it is a misspelled field, and its text differs in each process."""
    if callable(value) and not isinstance(value, (jinja2.Undefined, str)):
        raise _UnknownField(getattr(value, "__name__", type(value).__name__))
    return value


_ENVIRONMENT = _Environment(undefined=_StrictUndefined, finalize=_refuse_method)


class Template:
    """A jinja2 template in jinja2's sandbox. From checkpoints, only plain templates get here
    (`recbole_llm.core.checkpoints.stored`).

    Raises:
        PromptError: the text is not valid jinja2.
    """

    def __init__(self, source: str, origin: str, key: str) -> None:
        self.origin, self.key = origin, key
        try:
            self._tree = _ENVIRONMENT.parse(source)
            self._template = _ENVIRONMENT.from_string(source)
        except Exception as error:  # jinja2's own, and whatever deep nesting makes Python raise
            open_end = "end of template" in str(error)
            way_out = "; close each {{ by }} and each {% by %}" if open_end else ""
            raise PromptError(
                f"{key}: {origin} is not a valid template: {one_line(error).rstrip('.')}{way_out}"
            ) from error

    def variables(self) -> set[str]:
        """Names that rendering needs, without those that the template tests or gives a default."""
        names = jinja2.meta.find_undeclared_variables(self._tree)
        optional = {
            node.node.name
            for kind, names_ in _OPTIONAL
            for node in self._tree.find_all(kind)
            if node.name in names_ and isinstance(node.node, nodes.Name)
        }
        return names - optional

    def check(self, known: Collection[str]) -> None:
        """Refuse a template that uses names other than the `known` ones.

        Raises:
            PromptError: the message has the first such name and the known ones.
        """
        for name in sorted(self.variables() - set(known)):
            raise self._unknown(name, known)

    def render(self, values: Mapping[str, Any]) -> str:
        """The text, without white space around it.

        Raises:
            PromptError: an unknown field, or any other failure of the template.
        """
        try:
            return self._template.render(values).strip()
        except _UnknownField as error:
            item = values.get("item")
            known = {*values, *(item if isinstance(item, Mapping) else ())}
            raise self._unknown(str(error), known) from None
        except Exception as error:  # whatever an expression in a template may raise
            raise PromptError(f"{self.key}: {self.origin} fails: {one_line(error)}") from error

    def _unknown(self, name: str, known: Collection[str]) -> PromptError:
        return PromptError(
            f"{self.key}: {self.origin} uses the field '{name}', which is not there; "
            f"{near_hint(name, known)}the fields are: {', '.join(sorted(known))}"
        )


def find_template(value: str | None, key: str, kind: str, dataset: str) -> Template:
    """The template that a config value denotes.

    Args:
        value: a template, the path of a ``.jinja`` file, or the name of a file in properties/prompt
            without ``.jinja``; None means ``<dataset>.<kind>`` there, or else ``<kind>``.
        kind: ``item``, ``user``, ``thought`` or ``behavior``.

    Raises:
        PromptError: the value is none of these, or the template is not valid.
    """
    if value is not None and ("{{" in value or "{%" in value):
        return Template(value, f"the template '{value}'", key)
    if value is None:
        specific = _FOLDER / f"{dataset}.{kind}{_SUFFIX}"
        path = specific if specific.is_file() else _FOLDER / f"{kind}{_SUFFIX}"
    else:
        path = _find_file(value, key)
    try:
        source = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise PromptError(f"{key}: '{path}' cannot be read: {one_line(error)}") from error
    return Template(source, f"the template file '{path}'", key)


def _find_file(value: str, key: str) -> Path:
    found = None
    candidates = (expanded(value), _FOLDER / value, _FOLDER / f"{value}{_SUFFIX}")
    with suppress(OSError):  # a text too long for the name of a file
        found = next((p for p in candidates if p.suffix == _SUFFIX and p.is_file()), None)
    if found is None:
        names = sorted(p.stem for p in _FOLDER.glob(f"*{_SUFFIX}"))
        raise PromptError(
            f"{key}: '{value}' is neither a template (it has no '{{{{'), nor a {_SUFFIX} file, nor "
            f"a name in properties/prompt; {near_hint(value, names)}names: "
            f"{', '.join(names)}"
        )
    return found
