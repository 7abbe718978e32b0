"""Pictures of items: finding them, and reading them safely.

A picture is data from anywhere: three formats, a limit of pixels, no animation, no path out of the
folder. What cannot be used is counted and named, and its item has no picture.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from contextlib import closing
from hashlib import sha256
from io import BytesIO
from logging import INFO, WARNING, getLogger
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, NamedTuple
from warnings import catch_warnings

from recbole.data.dataset import Dataset

from recbole_llm.core.config import Config
from recbole_llm.core.digest import digest, file_digest
from recbole_llm.core.errors import did_you_mean, first_names
from recbole_llm.core.files import expanded
from recbole_llm.core.lines import bar
from recbole_llm.features.generated_texts import TextStore
from recbole_llm.features.prompts import item_file
from recbole_llm.features.settings import ItemSettings
from recbole_llm.features.store import cache_dir

if TYPE_CHECKING:
    from PIL.Image import Image


FORMATS = ("PNG", "JPEG", "WEBP")
SUFFIXES = (".png", ".jpg", ".jpeg", ".webp")
_MAX_BYTES = 1 << 26  # of a file
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
        # What Pillow warns of (a size, EXIF data) is a picture that is used, or refused here.
        with (
            catch_warnings(action="ignore"),
            Image.open(BytesIO(content), formats=FORMATS) as image,
        ):
            if image.width * image.height > max_pixels:
                raise PictureError("too large")
            # A JPEG of a camera may have further, smaller ones behind it (MPO).
            if image.format != "MPO" and getattr(image, "n_frames", 1) > 1:
                raise PictureError("animated")
            upright = _of_bytes(ImageOps.exif_transpose(image))
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


def _of_bytes(image: Image) -> Image:
    """A grey picture of 16 bits in 8, to which Pillow does not scale but cut it."""
    if not image.mode.startswith("I"):
        return image
    grey = image.convert("I").point(lambda value: value / 256).convert("L")
    grey.info.pop("transparency", None)  # a value of 16 bits
    return grey


class Picture(NamedTuple):
    """A file that can be used."""

    file: Path
    digest: str  # SHA-256 of its bytes


def find_pictures(config: Config, dataset: Dataset, tokens: Sequence[str]) -> dict[str, Picture]:
    """The usable pictures of items by token; the others are counted and named in the log.

    Those that are usable are noted in the cache by their bytes, so that each is decoded but once.

    Raises:
        ValueError: no such folder or field.
    """
    candidates = _candidates(config, dataset, tokens)
    found: dict[str, Picture] = {}
    problems: dict[str, list[str]] = {}
    shown = config["show_progress"] is not False and len(tokens) >= _BAR_FROM
    max_pixels = ItemSettings.of(config).item_image_max_pixels
    with closing(TextStore(cache_dir(config))) as usable:
        for token in bar(tokens, desc="Pictures", unit="picture", shown=shown):
            try:
                digest = _checked(_bytes(candidates.get(token)), max_pixels, usable)
                found[token] = Picture(candidates[token], digest)
            except PictureError as error:
                problems.setdefault(str(error), []).append(token)
    parts = [f"{len(names)} {what} ({first_names(names)})" for what, names in problems.items()]
    # Of items that are pictures alone `align` warns, and says what becomes of them.
    alone = ItemSettings.of(config).item_feature == "item_image"
    quiet = not problems or (alone and set(problems) == {"missing"})
    said = "; ".join([f"pictures of {len(found)} of {len(tokens)} items", *parts])
    getLogger("recbole_llm").log(INFO if quiet else WARNING, said)
    return found


def pictures_digest(config: Config) -> str:
    """Digest of the pictures of all items, by their bytes, before the data is loaded; none is
    decoded.

    Raises:
        ValueError: no such folder or field.
    """
    dataset = SimpleNamespace(
        dataset_path=config["data_path"],
        dataset_name=config["dataset"],
        iid_field=config["ITEM_ID_FIELD"],
    )
    files = _candidates(config, dataset)
    return digest({token: _content(file) for token, file in files.items()})


def _content(path: Path) -> str:
    """Digest of a picture's bytes; "" of what counts as missing."""
    try:
        usable = path.is_file() and path.stat().st_size <= _MAX_BYTES
        return file_digest(path) if usable else ""
    except OSError:
        return ""


def _checked(content: bytes, max_pixels: int, usable: TextStore) -> str:
    """Digest of a usable picture's bytes; PictureError for another.

    What is broken here may not be elsewhere, so that it is tried again.
    """
    digest = sha256(content).hexdigest()
    keys = usable.keys(f"picture of {max_pixels} pixels", [digest])
    if not usable.present(keys):
        read_picture(content, max_pixels)
        usable.add(keys, ["usable"])
    return digest


def _bytes(path: Path | None) -> bytes:
    try:
        if path is None or not path.is_file():
            raise PictureError("missing")
        if path.stat().st_size > _MAX_BYTES:
            raise PictureError("too large")
        return path.read_bytes()
    except OSError as error:
        raise PictureError("unreadable") from error


def _candidates(
    config: Config, dataset: Dataset, tokens: Iterable[str] | None = None
) -> dict[str, Path]:
    """{token: file}, whether it is there or not; tokens None: of all items."""
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
        inside = [f for f in files if _real(f).is_relative_to(root)]  # links may lead out
        return {file.stem: file for file in reversed(inside)}
    file = item_file(config, dataset)
    if field not in file.types:
        raise ValueError(
            f"item_image_field: '{file.path}' has no field '{field}'; "
            f"{did_you_mean(field, file.types, ' ')}it has {file.described()}"
        )
    rows = file.by(dataset.iid_field)
    wanted = [t for t in (rows if tokens is None else tokens) if t in rows and rows[t][field]]
    named = {t: _real(folder / rows[t][field]) for t in wanted}
    return {token: path for token, path in named.items() if path.is_relative_to(root)}


def _real(file: Path) -> Path:
    """Where links lead; of a circle of links, which no file is behind, a link. `Path.resolve`
    raises there before Python 3.13."""
    return Path(os.path.realpath(file))
