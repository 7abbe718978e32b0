"""Encoding items by their pictures, alone or together with their texts."""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import sha256
from typing import TYPE_CHECKING

from recbole.data.dataset import Dataset

from recbole_llm.core.config import Config
from recbole_llm.core.errors import one_line
from recbole_llm.features.contents.keys import Content
from recbole_llm.features.contents.pictures import Picture, find_pictures, read_picture
from recbole_llm.features.contents.prompts import item_texts
from recbole_llm.features.encoders.base import Encoder, EncoderError, PictureEncoder
from recbole_llm.features.tables.table import Matrix

if TYPE_CHECKING:
    from PIL.Image import Image

_AT_ONCE = 16  # pictures decoded at a time


class ItemEncoder:
    """Turns items into vectors: opens their pictures for an encoder of pictures."""

    request_size = _AT_ONCE

    def __init__(self, encoder: PictureEncoder, max_pixels: int) -> None:
        self.fingerprint = encoder.fingerprint
        self._encoder, self._max_pixels = encoder, max_pixels

    def encode(self, contents: Sequence[Content]) -> Matrix:
        """Float32 [len(contents), D].

        Raises:
            EncoderError: the model cannot encode a picture; the message names its file.
        """
        try:
            return self._encode(contents)
        except EncoderError:
            raise
        except ValueError:
            for content in contents:
                self._try_alone(content)
            raise

    def _try_alone(self, content: Content) -> None:
        try:
            self._encode([content])
        except ValueError as error:
            if content.picture is None:
                raise
            raise EncoderError(
                f"picture '{content.picture.file}' cannot be encoded ({one_line(error)}); replace "
                f"it, or remove it and set missing_embedding to zeros or mean"
            ) from error

    def _encode(self, contents: Sequence[Content]) -> Matrix:
        images = [self._open(content.picture) for content in contents]
        return self._encoder.encode_contents([content.text for content in contents], images)

    def _open(self, picture: Picture | None) -> Image | None:
        if picture is None:
            return None
        data = picture.file.read_bytes()
        if sha256(data).hexdigest() != picture.digest:
            raise EncoderError(
                f"picture '{picture.file}' has changed since the run began; start it again"
            )
        return read_picture(data, self._max_pixels)


def item_contents(
    config: Config, dataset: Dataset, feature: str, tokens: Sequence[str] | None = None
) -> dict[str, Content]:
    """The text, the picture or both of each item that has one, by token.

    Args:
        feature: item_image or item_multimodal.
        tokens: the items; None: all that have an id.

    Raises:
        ValueError: the texts or pictures are at fault.
    """
    texts = {} if feature == "item_image" else item_texts(config, dataset, tokens)
    if tokens is None:
        tokens = [str(token) for token in dataset.field2id_token[dataset.iid_field][1:]]
    pictures = find_pictures(config, dataset, tokens)
    contents = {token: Content(texts.get(token), pictures.get(token)) for token in tokens}
    return {token: content for token, content in contents.items() if any(content)}


def check_encoder_reads(encoder: Encoder, feature: str) -> None:
    """Refuse an encoder that cannot read the contents of an item feature."""
    pictures = isinstance(encoder, PictureEncoder)
    texts = not isinstance(encoder, PictureEncoder) or encoder.reads_text
    if feature != "item_text" and not pictures:
        raise ValueError(
            f"item_feature: '{feature}' needs an encoder of pictures: set encoder to image or "
            f"multimodal"
        )
    if feature != "item_image" and not texts:
        raise ValueError(
            f"encoder: it reads only pictures, but item_feature is '{feature}'; set item_feature "
            f"to item_image, or encoder to multimodal"
        )
