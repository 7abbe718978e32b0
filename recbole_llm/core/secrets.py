"""Credentials in addresses, which are kept out of everything that is written."""

from __future__ import annotations

import re
from typing import Any

# scheme://[user:password@]host/path[?query][#fragment]
_ADDRESS = re.compile(
    r"(?P<scheme>\b[A-Za-z][A-Za-z0-9+.-]*://)(?:[^\s/?#\"'<>\x1b]*@)?"
    r"(?P<place>[^\s?#\"'<>\x1b]*)(?:[?#][^\s\"'<>\x1b]*)?"
)


def without_credentials(text: str) -> str:
    """Return a text with user, password, query and fragment removed from its addresses."""
    return _ADDRESS.sub(r"\g<scheme>\g<place>", text) if "://" in text else text


def take_credentials(values: dict[str, Any]) -> dict[str, str]:
    """Remove the credentials from the addresses in `values`, under keys that end in ``_url``.

    Returns {key: original address} for those that had credentials.
    """
    full = {k: v for k, v in values.items() if k.endswith("_url") and isinstance(v, str)}
    bare = {key: without_credentials(value) for key, value in full.items()}
    values.update(bare)
    return {key: value for key, value in full.items() if value != bare[key]}
