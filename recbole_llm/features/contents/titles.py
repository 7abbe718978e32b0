"""The field by which items are named."""

from __future__ import annotations

from collections.abc import Sequence

# Names of the field of titles; a brand_name or a subtitle beside them is something else.
_TITLES = ("title", "name", "product_title", "product_name", "item_title", "item_name")


def find_title_field(fields: Sequence[str]) -> str | None:
    """The field that most likely names items, of those that describe them in words: one with a
    usual name, else the first one. None: there are no fields."""
    titles = [f for title in _TITLES for f in fields if f.lower() == title]
    named = [f for word in ("title", "name") for f in fields if word in f.lower()]
    return next(iter([*titles, *named, *fields]), None)
