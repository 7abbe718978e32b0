"""Lines for a terminal."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import click
from tqdm import tqdm

if TYPE_CHECKING:
    from recbole.config import Config

_SECONDS = 60.0  # between a bar's lines where it cannot be drawn
_LINE = "{desc}: {n_fmt} of {total_fmt} [{elapsed}<{remaining}{postfix}]"


def is_terminal(stream: object) -> bool:
    """Whether a stream is a terminal; one in the place of the standard output, such as a
    notebook's, may have no ``isatty``."""
    return bool(getattr(stream, "isatty", bool)())


def shows_progress(config: Config) -> bool:
    """Whether a run shows its progress; where RecBole's own configuration does not say, it does."""
    value = config["show_progress"]  # RecBole also has 0 and 1
    return value is None or bool(value)


def shows_epoch_bars(config: Config) -> bool:
    """Whether RecBole's bars, one for each epoch, take the place of a training's one line."""
    return shows_progress(config) and bool(config["verbose"])


def say_meanwhile(text: str) -> None:
    """Say on a terminal what takes a while; nothing where nobody watches."""
    if is_terminal(sys.stderr):
        print(f"{text} …", file=sys.stderr)


def bar(things: Iterable[Any] | None = None, *, shown: object, **options: Any) -> Any:
    """tqdm's bar on a terminal, gone when it is full; a line every minute in a pipe or a file, such
    as a cluster's log; nothing where it is not to be shown."""
    if is_terminal(sys.stderr):
        return tqdm(things, leave=False, disable=not shown, **options)
    options.update(delay=_SECONDS, mininterval=_SECONDS, miniters=1, bar_format=_LINE)
    return tqdm(things, leave=False, disable=not shown, file=_Lines(), **options)


class _Lines:
    """A file for a bar that is not to be drawn over itself."""

    def write(self, text: str) -> None:
        if text.strip():
            print(text.strip(), file=sys.stderr, flush=True)

    def flush(self) -> None:
        """Each line is written at once."""


def is_utf8(text: str) -> bool:
    """Whether a text can be written. Python keeps bytes of a command line that are not UTF-8 as
    halves of characters, which cannot."""
    return text.encode(errors="ignore").decode() == text


def plural(number: int, noun: str) -> str:
    """``1 user``, ``1,234 users``."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def quoted(name: str) -> str:
    """A name for a list with commas, where one that has commas itself stands in double quotes."""
    if "," in name or name.startswith('"'):
        return '"' + name.replace('"', '""') + '"'
    return name


def aligned(rows: Sequence[Sequence[str]], right: bool = False) -> Iterator[str]:
    """Lines whose columns are of one width each; what styles a text takes no place. Columns are
    set to the left, or, but for the first, to the right."""
    widths = [max(map(width, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        cells = []
        for number, (cell, wide) in enumerate(zip(row, widths)):
            space = " " * (wide - width(cell))
            cells.append(space + cell if right and number else cell + space)
        yield "  ".join(cells).rstrip()


def width(text: str) -> int:
    """Places that a text takes on a terminal."""
    return len(click.unstyle(text))
