"""Answers of embeddings endpoints: untrusted data, checked before it is used or stored."""

from __future__ import annotations

import base64
import json
from collections import Counter
from typing import Any
from urllib.parse import parse_qsl, quote, unquote, urlsplit

import numpy as np

from recbole_llm.core.errors import one_line
from recbole_llm.features.encoders.base import EncoderError
from recbole_llm.features.tables.table import Matrix

_SHOWN = 60  # characters of an answer in a message
_SECRET = 4  # characters of the shortest query value that is masked; shorter ones occur everywhere


def read_answer(body: bytes, count: int, width: int | None = None) -> Matrix:
    """The vectors of an answer in the order of the texts.

    An invalid vector (not a list of numbers, another width, beyond float32) becomes a row of NaN;
    the others are kept. An answer that does not assign each vector to a text is refused.

    Args:
        width: required width of the vectors; None: the width that most of them have.

    Returns:
        float32 [count, D].

    Raises:
        EncoderError: the answer is invalid; the message is worded to follow "the endpoint failed".
    """
    rows = _order_by_index(_read_entries(body), count)
    vectors = [_parse_vector(row) for row in rows]
    widths = Counter(len(v) for v in vectors if v is not None and len(v))
    if not widths:
        raise EncoderError(f"it answered with no vector of numbers: {quote_answer(body)}")
    usual = widths.most_common(1)[0][0]
    if width is not None and width not in widths:
        raise EncoderError(f"it answered with vectors of {usual} numbers, expected {width}")
    size = usual if width is None else width
    out = np.full((count, size), np.nan, np.float32)
    for row, vector in enumerate(vectors):
        if vector is not None and len(vector) == size:
            out[row] = vector
    return out


def credentials(url: str) -> list[str]:
    """Secrets in an address, such as a password or a token, which a server's answer may repeat."""
    parts = urlsplit(url)
    user, _, _ = parts.netloc.rpartition("@")
    password = user.partition(":")[2]
    basic = base64.b64encode(unquote(user).encode()).decode("ascii")
    pairs = [pair for pair in parts.query.split("&") if not pair.startswith("api-version=")]
    raw = [pair.partition("=")[2] for pair in pairs]
    read = [value for _, value in parse_qsl("&".join(pairs))]
    values = [v for v in (*raw, *read, *(quote(v, "") for v in read)) if len(v) >= _SECRET]
    own = [s for s in (basic, user, password, unquote(password)) if user and s]
    return sorted({*own, *values}, key=len, reverse=True)


def _read_entries(body: bytes) -> list[Any]:
    try:
        answer = json.loads(body)
    except (ValueError, RecursionError):
        raise EncoderError(f"it answered with no JSON: {quote_answer(body)}") from None
    data = answer.get("data") if isinstance(answer, dict) else None
    if not isinstance(data, list):
        raise EncoderError(f"it answered without a list 'data': {quote_answer(body)}")
    return data


def _order_by_index(entries: list[Any], count: int) -> list[Any]:
    """Embeddings in the order of their ``index``, which must be 0 to count - 1, each once."""
    if len(entries) != count:
        raise EncoderError(f"it answered with {len(entries)} vectors for {count} texts")
    found: dict[int, Any] = {}
    for entry in entries:
        index = entry.get("index") if isinstance(entry, dict) else None
        if isinstance(index, bool) or not isinstance(index, int) or not 0 <= index < count:
            raise EncoderError(
                f"it answered with the index {index!r:.20}, expected 0 to {count - 1}, so it is "
                f"unknown which vector belongs to which text"
            )
        if index in found:
            raise EncoderError(f"it answered with the index {index} twice")
        found[index] = entry.get("embedding")
    return [found[index] for index in range(count)]


def _parse_vector(values: object) -> Matrix | None:
    """The vector, float32 [D], or None if `values` is no list of finite numbers."""
    if not isinstance(values, list) or not all(type(v) in (int, float) for v in values):
        return None
    try:
        with np.errstate(over="ignore"):
            vector = np.asarray(values, np.float64).astype(np.float32)
    except OverflowError:  # an integer beyond float64
        return None
    return vector if np.isfinite(vector).all() else None


def quote_answer(body: bytes) -> str:
    """The beginning of an answer, for a message."""
    said = one_line(body[: 10 * _SHOWN].decode("utf-8", "replace"), _SHOWN)
    return f"'{said}'" if said else "nothing"
