"""Lines for a terminal."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import click
from tqdm import tqdm

if TYPE_CHECKING:
    from recbole.config import Config

_SECONDS = 60.0  # between the lines of a bar that cannot be drawn
_LINE = "{desc}: {n_fmt} of {total_fmt} [{elapsed}<{remaining}{postfix}]"


def is_terminal(stream: object) -> bool:
    """Whether a stream is a terminal. A stream that replaces standard output, such as a notebook's,
    may lack ``isatty``; it is no terminal."""
    return bool(getattr(stream, "isatty", bool)())


def shows_progress(config: Config) -> bool:
    """Whether a run shows its progress; True if a RecBole configuration does not say."""
    value = config["show_progress"]  # RecBole also has 0 and 1
    return value is None or bool(value)


def shows_epoch_bars(config: Config) -> bool:
    """Whether training shows RecBole's bars, one for each epoch, in place of its single line."""
    return shows_progress(config) and bool(config["verbose"])


def say_meanwhile(text: str) -> None:
    """Print on a terminal what takes a while; print nothing to a pipe or a file."""
    if is_terminal(sys.stderr):
        print(f"{text} …", file=sys.stderr)


def bar(things: Iterable[Any] | None = None, *, shown: object, **options: Any) -> Any:
    """Return a tqdm bar: on a terminal, a bar that disappears when it is full; in a pipe or a file,
    such as a cluster's log, a line every minute. It prints nothing unless it is `shown`."""
    if is_terminal(sys.stderr):
        return tqdm(things, leave=False, disable=not shown, **options)
    options.update(delay=_SECONDS, mininterval=_SECONDS, miniters=1, bar_format=_LINE)
    return tqdm(things, leave=False, disable=not shown, file=_Lines(), **options)


class _Lines:
    """A file-like object that prints each state of a bar on a line of its own."""

    def write(self, text: str) -> None:
        if text.strip():
            print(text.strip(), file=sys.stderr, flush=True)

    def flush(self) -> None:
        """Do nothing, since `write` flushes each line."""


def is_utf8(text: str) -> bool:
    """Whether a text can be encoded in UTF-8. Python keeps other bytes of a command line as lone
    surrogates, which cannot be encoded."""
    return text.encode(errors="ignore").decode() == text


def plural(number: int, noun: str) -> str:
    """``1 user``, ``1,234 users``."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def quoted(name: str) -> str:
    """A name for a comma-separated list: in quotes if it has a comma or starts with a quote."""
    if "," in name or name.startswith('"'):
        return '"' + name.replace('"', '""') + '"'
    return name


def aligned(rows: Sequence[Sequence[str]], right: bool = False) -> Iterator[str]:
    """Yield lines with aligned columns; escape codes of styled text do not count as width. Columns
    are aligned left or, with `right`, all but the first are aligned right."""
    widths = [max(map(width, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        cells = []
        for number, (cell, wide) in enumerate(zip(row, widths)):
            space = " " * (wide - width(cell))
            cells.append(space + cell if right and number else cell + space)
        yield "  ".join(cells).rstrip()


def width(text: str) -> int:
    """The width of a text on a terminal, in characters."""
    return len(click.unstyle(text))
