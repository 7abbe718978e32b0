"""One wording for unknown names, with the near matches, for lists of names, for what is missing."""

from __future__ import annotations

import difflib
import os
from collections.abc import Iterable, Iterator, Sized
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Any

_LISTED = 12  # known names in a message
_FIRST = 5  # names in a message, of those that are meant


def near_matches(name: str, known: Iterable[Any]) -> list[str]:
    """Those of ``known`` that are spelt most like ``name``, the nearest first; case is ignored."""
    by_lower = {str(k).lower(): str(k) for k in known}
    near = difflib.get_close_matches(str(name).lower(), list(by_lower), n=3, cutoff=0.6)
    return [by_lower[n] for n in near]


def did_you_mean(name: str, known: Iterable[Any]) -> str:
    """``did you mean 'PAD'?`` for the nearest of ``known``; an empty string if none is near."""
    near = near_matches(name, known)
    return f"did you mean {' or '.join(map(repr, near))}?" if near else ""


def unknown(what: str, value: object, known: Iterable[Any], advice: str = "") -> ValueError:
    """The error for a name that is not among the known ones.

    Args:
        what: the config key, or the kind of thing, that the value names.
        value: the name that was given.
        known: the names there are.
        advice: the way out where it is not to choose a known name.
    """
    names = [str(k) for k in known]
    shown = ", ".join(names[:_LISTED]) + and_more(names, _LISTED)
    listed = f"choose from {shown}" if names else ""
    parts = (f"{what} '{value}' is unknown;", did_you_mean(str(value), names), advice or listed)
    return ValueError(" ".join(part for part in parts if part))


def first_names(names: Iterable[object]) -> str:
    """``'a', 'b', 'c', 'd', 'e', …`` for messages."""
    shown = [f"'{name}'" for name in islice(names, _FIRST + 1)]
    return ", ".join([*shown[:_FIRST], "…"] if len(shown) > _FIRST else shown)


def and_more(found: Sized, shown: int) -> str:
    """`` and 7 more``; an empty string where all are shown."""
    return f" and {len(found) - shown} more" if len(found) > shown else ""


def absent(what: str, file: str | os.PathLike[str]) -> ValueError:
    """The error for a file that does not exist, with those beside it that are called alike, or that
    is a folder.

    Args:
        what: the file is, or the key that names it.
        file: its name.
    """
    path = Path(file)
    if path.exists():
        return ValueError(f"{what} '{file}' is no file")
    names = [p.name for p in path.parent.iterdir()] if path.parent.is_dir() else []
    near = did_you_mean(path.name, names)
    return ValueError(f"{what} '{file}' does not exist{'; ' if near else ''}{near}")


@contextmanager
def needing(what: str, install: str, error: type[ValueError] = ValueError) -> Iterator[None]:
    """Imports of what few need: a missing package is named with the command that installs it.

    Args:
        what: needs it.
        install: what ``pip install`` takes.
        error: the class to raise.
    """
    try:
        yield
    except ImportError as missing:
        raise error(
            f"{what} needs the package '{missing.name}': pip install {install}"
        ) from missing


def check_choice(key: str, value: object, known: Iterable[Any]) -> None:
    """Raise `unknown` unless ``value`` is among ``known``."""
    names = list(known)
    if value not in names:
        raise unknown(key, value, names)


def one_line(reason: object, longest: int = 200) -> str:
    """What others say, for a message of ours: one line, bounded, nothing but printable."""
    text = " ".join(str(reason)[: 10 * longest].split())
    plain = "".join(c if c.isprintable() else "?" for c in text)
    return plain if len(plain) <= longest else f"{plain[:longest]}…"
