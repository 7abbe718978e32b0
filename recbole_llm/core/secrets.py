"""Credentials that addresses carry, kept out of everything that is written."""

from __future__ import annotations

import re
from typing import Any

# scheme://[user:password@]host/path[?query][#fragment]
_ADDRESS = re.compile(
    r"(?P<scheme>\b[A-Za-z][A-Za-z0-9+.-]*://)(?:[^\s/?#\"'<>\x1b]*@)?"
    r"(?P<place>[^\s?#\"'<>\x1b]*)(?:[?#][^\s\"'<>\x1b]*)?"
)


def without_credentials(text: str) -> str:
    """A text whose addresses are without user, password, query and fragment."""
    return _ADDRESS.sub(r"\g<scheme>\g<place>", text) if "://" in text else text


def take_credentials(values: dict[str, Any]) -> dict[str, str]:
    """Replace addresses, the values of keys in ``_url``, by those without credentials;
    {key: address as it was} of those that had any.
    """
    full = {k: v for k, v in values.items() if k.endswith("_url") and isinstance(v, str)}
    bare = {key: without_credentials(value) for key, value in full.items()}
    values.update(bare)
    return {key: value for key, value in full.items() if value != bare[key]}
