"""The contents that an encoder reads, and the keys that their vectors are stored by."""

from __future__ import annotations

from typing import NamedTuple, TypeVar

from recbole_llm.features.contents.pictures import Picture


class Content(NamedTuple):
    """An item's content for an encoder of pictures: a text, a picture, or both."""

    text: str | None
    picture: Picture | None


C = TypeVar("C", str, Content)  # an encoder of texts reads plain texts


def content_key(content: str | Content) -> str:
    """The part of a vector's key that comes from its content. It must never change: caches store
    vectors under such keys, and checkpoints hold digests of them."""
    if isinstance(content, str):
        return content
    # A file is identified by its bytes, so that a file that moves is not encoded again.
    picture = content.picture.digest if content.picture else "no picture"
    return f"{picture}\n{content.text or ''}"
