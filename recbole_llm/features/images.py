"""Pictures of items, and texts beside them, brought to an encoder."""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING

from recbole.data.dataset import Dataset

from recbole_llm.core.config import Config
from recbole_llm.core.errors import one_line
from recbole_llm.features.encoders.base import Encoder, EncoderError, PictureEncoder
from recbole_llm.features.pictures import find_pictures, read_picture
from recbole_llm.features.prompts import Texts, item_texts
from recbole_llm.features.settings import ItemSettings
from recbole_llm.features.table import Matrix

if TYPE_CHECKING:
    from PIL.Image import Image

_AT_ONCE = 16  # decoded pictures


class _Contents:
    """An encoder of texts to the pipeline: each "text" is the key of an item's content."""

    request_size = _AT_ONCE

    def __init__(
        self,
        encoder: PictureEncoder,
        contents: dict[str, tuple[str | None, Path | None]],
        max_pixels: int,
    ) -> None:
        self.fingerprint = encoder.fingerprint
        self._encoder, self._contents, self._max_pixels = encoder, contents, max_pixels

    def encode(self, texts: Sequence[str]) -> Matrix:
        """Keys to vectors, float32 [len(texts), D].

        Raises:
            EncoderError: the model does not take a picture, which is named.
        """
        try:
            return self._encoded(texts)
        except EncoderError:
            raise
        except ValueError:
            for key in texts:
                self._try_alone(key)
            raise

    def _try_alone(self, key: str) -> None:
        file = self._contents[key][1]
        try:
            self._encoded([key])
        except ValueError as error:
            if file is None:
                raise
            raise EncoderError(
                f"picture '{file}' cannot be encoded ({one_line(error)}); replace it, or remove it "
                f"and set missing_embedding to zeros or mean"
            ) from error

    def _encoded(self, texts: Sequence[str]) -> Matrix:
        contents = [self._contents[key] for key in texts]
        images = [self._open(key, file) for key, (_, file) in zip(texts, contents, strict=True)]
        texts_read = [text for text, _ in contents]
        return self._encoder.encode_contents(texts_read, images)

    def _open(self, key: str, file: Path | None) -> Image | None:
        if file is None:
            return None
        content = file.read_bytes()
        if not key.startswith(sha256(content).hexdigest()):
            raise EncoderError(f"picture '{file}' has changed since the run began; start it again")
        return read_picture(content, self._max_pixels)


def items_read(
    config: Config,
    dataset: Dataset,
    feature: str,
    encoder: Encoder,
    tokens: Sequence[str] | None = None,
) -> tuple[Texts, Encoder]:
    """What an encoder reads of each item, by token, and the encoder that takes it.

    Args:
        feature: item_text, item_image or item_multimodal.
        tokens: the items; None: all that have an id.

    Raises:
        ValueError: the encoder cannot read that; or of the texts and pictures.
    """
    _check_reads(feature, encoder)
    texts = {} if feature == "item_image" else item_texts(config, dataset, tokens)
    if feature == "item_text" or not isinstance(encoder, PictureEncoder):
        return texts, encoder
    if tokens is None:
        tokens = [str(token) for token in dataset.field2id_token[dataset.iid_field][1:]]
    found = find_pictures(config, dataset, tokens)
    keys, contents = {}, {}
    for token in tokens:
        text, picture = texts.get(token), found.get(token)
        if text is not None or picture is not None:
            # A file is known by its bytes, so that one that moves is not encoded again.
            keys[token] = f"{picture.digest if picture else 'no picture'}\n{text or ''}"
            contents[keys[token]] = text, picture.file if picture else None
    return keys, _Contents(encoder, contents, ItemSettings.of(config).item_image_max_pixels)


def _check_reads(feature: str, encoder: Encoder) -> None:
    pictures = isinstance(encoder, PictureEncoder)
    texts = not isinstance(encoder, PictureEncoder) or encoder.reads_text
    if feature != "item_text" and not pictures:
        raise ValueError(
            f"item_feature: '{feature}' needs an encoder of pictures: set encoder to image or "
            f"multimodal"
        )
    if feature != "item_image" and not texts:
        raise ValueError(
            f"encoder: this one reads pictures alone, but item_feature is '{feature}'; set it to "
            f"item_image, or encoder: multimodal"
        )
