"""Pictures of items: finding them, reading them safely, and bringing them to an encoder.

A picture is data from anywhere: three formats, a limit of pixels, no animation, no path out of the
folder. What cannot be used is counted and named, and its item has no picture.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from hashlib import sha256
from io import BytesIO
from logging import getLogger
from pathlib import Path
from typing import TYPE_CHECKING

from recbole.data.dataset import Dataset

from recbole_llm.core.config import Config
from recbole_llm.core.digest import file_digest
from recbole_llm.core.errors import did_you_mean, first_names
from recbole_llm.core.files import expanded
from recbole_llm.core.lines import bar
from recbole_llm.features.encoders.base import Encoder, EncoderError, PictureEncoder
from recbole_llm.features.prompts import Texts, item_file, item_texts
from recbole_llm.features.settings import ItemSettings
from recbole_llm.features.table import Matrix

if TYPE_CHECKING:
    from PIL.Image import Image


FORMATS = ("PNG", "JPEG", "WEBP")
SUFFIXES = (".png", ".jpg", ".jpeg", ".webp")
_MAX_BYTES = 1 << 26  # of a file
_AT_ONCE = 16  # decoded pictures
_BAR_FROM = 1_000  # pictures: fewer are looked through in a blink


class PictureError(ValueError):
    """A picture that is not used; the message is one word or two: broken, too large, …"""


def read_picture(content: bytes, max_pixels: int) -> Image:
    """A file's picture: upright, in RGB, on white where it is transparent.

    Raises:
        PictureError: broken (or of another format), too large, animated.
    """
    from PIL import Image, ImageOps

    try:
        with Image.open(BytesIO(content), formats=FORMATS) as image:
            if image.width * image.height > max_pixels:
                raise PictureError("too large")
            if getattr(image, "n_frames", 1) > 1:
                raise PictureError("animated")
            upright = ImageOps.exif_transpose(image)
            if not upright.has_transparency_data:
                return upright.convert("RGB")
            rgba = upright.convert("RGBA")
    except PictureError:
        raise
    except Image.DecompressionBombError as error:
        raise PictureError("too large") from error
    except Exception as error:  # whatever a crafted file makes the decoders raise
        raise PictureError("broken") from error
    white = Image.new("RGBA", rgba.size, "white")
    return Image.alpha_composite(white, rgba).convert("RGB")


def find_pictures(config: Config, dataset: Dataset, tokens: Sequence[str]) -> dict[str, Path]:
    """The usable pictures of items, {token: file}; the others are counted and named in the log.

    Raises:
        ValueError: no such folder or field.
    """
    settings = ItemSettings.of(config)
    candidates = _candidates(config, dataset, tokens)
    found: dict[str, Path] = {}
    problems: dict[str, list[str]] = {}
    shown = config["show_progress"] is not False and len(tokens) >= _BAR_FROM
    for token in bar(tokens, desc="Pictures", unit="picture", shown=shown):
        try:
            read_picture(_bytes(candidates.get(token)), settings.item_image_max_pixels)
            found[token] = candidates[token]
        except PictureError as error:
            problems.setdefault(str(error), []).append(token)
    parts = [f"{len(names)} {what} ({first_names(names)})" for what, names in problems.items()]
    log = getLogger("recbole_llm")
    (log.warning if parts else log.info)(
        "; ".join([f"pictures of {len(found)} of {len(tokens)} items", *parts])
    )
    return found


def _bytes(path: Path | None) -> bytes:
    try:
        if path is None or not path.is_file():
            raise PictureError("missing")
        if path.stat().st_size > _MAX_BYTES:
            raise PictureError("too large")
        return path.read_bytes()
    except OSError as error:
        raise PictureError("unreadable") from error


def _candidates(config: Config, dataset: Dataset, tokens: Iterable[str]) -> dict[str, Path]:
    """{token: file}, whether it is there or not."""
    settings, own = ItemSettings.of(config), Path(dataset.dataset_path)
    field = settings.item_image_field
    folder = expanded(settings.item_image_folder or (own if field else own / "images"))
    if not folder.is_dir():
        raise ValueError(
            f"item_image_folder: '{folder}' is no folder; set it to that of the pictures"
        )
    root = folder.resolve()
    if field is None:
        files = sorted(f for f in folder.iterdir() if f.suffix.lower() in SUFFIXES)
        inside = [f for f in files if f.resolve().is_relative_to(root)]  # links may lead out
        return {file.stem: file for file in reversed(inside)}
    file = item_file(config, dataset)
    if field not in file.types:
        raise ValueError(
            f"item_image_field: '{file.path}' has no field '{field}'; "
            f"{did_you_mean(field, file.types, ' ')}it has {file.described()}"
        )
    rows = file.by(dataset.iid_field)
    named = {t: (folder / rows[t][field]).resolve() for t in tokens if t in rows and rows[t][field]}
    return {token: path for token, path in named.items() if path.is_relative_to(root)}


class _Contents:
    """An encoder of texts to the pipeline: each "text" is the key of an item's content.

    Args:
        encoder: of pictures.
        contents: {key: (text, file)}, either of which may be missing.
        max_pixels: of a picture.
    """

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
        """Keys to vectors, float32 [len(texts), D]."""
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
        config: the configuration.
        dataset: the data set.
        feature: item_text, item_image or item_multimodal.
        encoder: the configuration's.
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
        text, file = texts.get(token), found.get(token)
        if text is not None or file is not None:
            # A file is known by its bytes, so that one that moves is not encoded again.
            keys[token] = f"{file_digest(file) if file else 'no picture'}\n{text or ''}"
            contents[keys[token]] = text, file
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
