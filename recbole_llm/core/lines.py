"""Lines for a terminal."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence

import click


def say_meanwhile(text: str) -> None:
    """Say on a terminal what takes a while; nothing where nobody watches."""
    if sys.stderr.isatty():
        print(f"{text} …", file=sys.stderr)


def aligned(rows: Sequence[Sequence[str]]) -> Iterator[str]:
    """Lines whose columns are of one width each; what styles a text takes no place."""
    widths = [max(map(_width, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        cells = (cell + " " * (width - _width(cell)) for cell, width in zip(row, widths))
        yield "  ".join(cells).rstrip()


def _width(text: str) -> int:
    return len(click.unstyle(text))
