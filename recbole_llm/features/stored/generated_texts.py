"""A store of generated texts, keyed by their prompts.

What a language model writes is data: it is cleaned before it is stored, and never interpreted.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Mapping, Sequence

from recbole_llm.features.stored.store import Store, content_keys

MAX_CHARACTERS = 20_000  # of a generated text
_KEPT = "\n\t"
# Bidirectional control characters, which can disguise a text.
_DIRECTIONS = frozenset("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")


def clean_text(text: str) -> str:
    """A text of at most `MAX_CHARACTERS`, without control characters or lone surrogates.

    >>> clean_text("a\\x00b\\r\\nc\\ud800 ")
    'ab\\nc'
    """
    lines = text[: 2 * MAX_CHARACTERS].replace("\r\n", "\n").replace("\r", "\n")
    plain = (c for c in lines if c in _KEPT or unicodedata.category(c) not in ("Cc", "Cs"))
    return "".join(c for c in plain if c not in _DIRECTIONS).strip()[:MAX_CHARACTERS].rstrip()


class TextStore(Store):
    """The generated texts of a cache folder, and marks of what has been checked."""

    table, column = "texts", "text"

    def keys(self, fingerprint: str, prompts: Iterable[str]) -> list[bytes]:
        """One 20-byte key per prompt, for the generator with this fingerprint."""
        return content_keys(f"text\0{fingerprint}\0", prompts)

    def add(self, keys: Sequence[bytes], texts: Sequence[str]) -> None:
        """Clean and store a batch in one transaction; existing keys keep their texts.

        Raises:
            StoreError: the disk is full, the file is locked too long or damaged.
        """
        self._insert(keys, [clean_text(text).encode("utf-8") for text in texts])

    def load(self, keys: Sequence[bytes]) -> Mapping[bytes, str]:
        """{key: text} of those keys that are stored.

        Raises:
            StoreError: a text is damaged.
        """
        try:
            return {key: content.decode("utf-8") for key, content in self._contents(keys)}
        except UnicodeDecodeError as error:
            raise self._damaged(error) from error

    def mark(self, kind: str, name: str) -> None:
        """Remember that a name is of a kind, by a row of its own among the texts.

        Raises:
            StoreError: see `add`.
        """
        self.add(self.keys(kind, [name]), ["usable"])  # the word in existing caches

    def has_mark(self, kind: str, name: str) -> bool:
        """Whether `mark` was called for a name."""
        return bool(self.present(self.keys(kind, [name])))
