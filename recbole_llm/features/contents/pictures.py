"""Pictures of items: finding them, and reading them safely.

Pictures are untrusted: only three formats are read, up to a limit of pixels, without animation, and
only inside the folder. Unusable ones are counted and named, and their items have no picture.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from contextlib import closing
from hashlib import sha256
from io import BytesIO
from logging import INFO, WARNING, getLogger
from pathlib import Path, PureWindowsPath
from types import SimpleNamespace
from typing import TYPE_CHECKING, NamedTuple
from warnings import catch_warnings

from recbole.data.dataset import Dataset

from recbole_llm.core.config import Config
from recbole_llm.core.digest import digest, file_digest
from recbole_llm.core.errors import first_names, near_hint
from recbole_llm.core.files import expanded
from recbole_llm.core.lines import bar, shows_progress
from recbole_llm.features.contents.prompts import item_file
from recbole_llm.features.settings import ItemSettings
from recbole_llm.features.stored.generated_texts import TextStore
from recbole_llm.features.stored.store import cache_dir

if TYPE_CHECKING:
    from PIL.Image import Image


FORMATS = ("PNG", "JPEG", "WEBP")
SUFFIXES = (".png", ".jpg", ".jpeg", ".webp")
_MAX_BYTES = 1 << 26  # of a file
_OUTSIDE = Path("..")  # in place of a file outside the folder of the pictures
_BAR_FROM = 1_000  # pictures; fewer take too little time for a progress bar


class PictureError(ValueError):
    """A picture that cannot be used; the message is a few words: broken, too large, …"""


def read_picture(content: bytes, max_pixels: int) -> Image:
    """A file's picture: upright, in RGB, on white where it is transparent.

    Raises:
        PictureError: broken (or of another format), too large, animated.
    """
    from PIL import Image, ImageOps

    try:
        # Pillow's warnings (size, EXIF data) are moot: the picture is used, or refused here.
        with (
            catch_warnings(action="ignore"),
            Image.open(BytesIO(content), formats=FORMATS) as image,
        ):
            if image.width * image.height > max_pixels:
                raise PictureError("too large")
            # A camera's JPEG file may contain further, smaller pictures (MPO).
            if image.format != "MPO" and getattr(image, "n_frames", 1) > 1:
                raise PictureError("animated")
            upright = _scaled_to_8_bits(ImageOps.exif_transpose(image))
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


def _scaled_to_8_bits(image: Image) -> Image:
    """Scale a 16-bit gray picture to 8 bits; Pillow itself would clip its values instead."""
    if not image.mode.startswith("I"):
        return image
    gray = image.convert("I").point(lambda value: value / 256).convert("L")
    gray.info.pop("transparency", None)  # a 16-bit value
    return gray


class Picture(NamedTuple):
    """A usable picture file."""

    file: Path
    digest: str  # SHA-256 of its bytes


def find_pictures(config: Config, dataset: Dataset, tokens: Sequence[str]) -> dict[str, Picture]:
    """The usable pictures of items by token; the others are counted and named in the log.

    Usable pictures are noted in the cache by their digest, so that each is decoded only once.

    Raises:
        ValueError: no such folder or field.
    """
    candidates = _candidate_files(config, dataset, tokens)
    usable: dict[str, Picture] = {}
    problems: dict[str, list[str]] = {}
    shown = shows_progress(config) and len(tokens) >= _BAR_FROM
    max_pixels = ItemSettings.of(config).item_image_max_pixels
    with closing(TextStore(cache_dir(config))) as store:
        for token in bar(tokens, desc="Pictures", unit="picture", shown=shown):
            try:
                path = candidates.get(token, Path())
                digest = _digest_if_usable(_read_bytes(path), max_pixels, store)
                usable[token] = Picture(path, digest)
            except PictureError as error:
                problems.setdefault(str(error), []).append(token)
    parts = [f"{len(names)} {what} ({first_names(names)})" for what, names in problems.items()]
    # If items have only pictures, `align` warns of missing ones and says what becomes of them.
    alone = ItemSettings.of(config).item_feature == "item_image"
    quiet = not problems or (alone and set(problems) == {"missing"})
    message = "; ".join([f"pictures of {len(usable)} of {len(tokens)} items", *parts])
    getLogger("recbole_llm").log(INFO if quiet else WARNING, message)
    return usable


def pictures_digest(config: Config) -> str:
    """Digest of the bytes of all items' pictures, without decoding them or loading the data.

    Raises:
        ValueError: no such folder or field.
    """
    dataset = SimpleNamespace(
        dataset_path=config["data_path"],
        dataset_name=config["dataset"],
        iid_field=config["ITEM_ID_FIELD"],
    )
    files = _candidate_files(config, dataset)
    return digest({token: _file_digest(file) for token, file in files.items()})


def _file_digest(path: Path) -> str:
    """Digest of a picture's bytes; "" for a picture that is not read."""
    try:
        usable = path.is_file() and path.stat().st_size <= _MAX_BYTES
        return file_digest(path) if usable else ""
    except OSError:
        return ""


def _digest_if_usable(content: bytes, max_pixels: int, store: TextStore) -> str:
    """Digest of a usable picture's bytes; PictureError for an unusable one.

    Unusable ones are tried again in each run: what is broken here may be readable elsewhere.
    """
    digest, kind = sha256(content).hexdigest(), f"picture of {max_pixels} pixels"
    if not store.has_mark(kind, digest):
        read_picture(content, max_pixels)
        store.mark(kind, digest)
    return digest


def _read_bytes(path: Path) -> bytes:
    if path == _OUTSIDE:
        raise PictureError("outside the folder")
    try:
        if not path.is_file():
            raise PictureError("missing")
        if path.stat().st_size > _MAX_BYTES:
            raise PictureError("too large")
        return path.read_bytes()
    except OSError as error:
        raise PictureError("unreadable") from error


def _candidate_files(
    config: Config, dataset: Dataset, tokens: Iterable[str] | None = None
) -> dict[str, Path]:
    """{token: file} of these items, or of all if `tokens` is None. A file need not exist;
    `_OUTSIDE` stands for a file outside the folder."""
    settings, home = ItemSettings.of(config), Path(dataset.dataset_path)
    field = settings.item_image_field
    folder = expanded(settings.item_image_folder or (home if field else home / "images"))
    if not folder.is_dir():
        raise ValueError(
            f"item_image_folder: '{folder}' is no folder; set it to the folder of the pictures"
        )
    root = folder.resolve()
    if field is None:
        files = sorted(f for f in folder.iterdir() if f.suffix.lower() in SUFFIXES)
        found = [(file.stem, _file_inside(file, root)) for file in reversed(files)]
        return dict(sorted(found, key=lambda pair: pair[1] != _OUTSIDE))  # one inside goes first
    file = item_file(config, dataset)
    if field not in file.types:
        raise ValueError(
            f"item_image_field: '{file.path}' has no field '{field}'; "
            f"{near_hint(field, file.types)}it has {file.describe_fields()}"
        )
    rows = file.rows_by_id(dataset.iid_field)
    wanted = [t for t in (rows if tokens is None else tokens) if t in rows and rows[t][field]]
    # The column may have been written on Windows, whose paths are read with either separator.
    names = {token: PureWindowsPath(rows[token][field]).as_posix() for token in wanted}
    return {token: _file_inside(folder / name, root) for token, name in names.items()}


def _file_inside(file: Path, root: Path) -> Path:
    """The file that links lead to; `_OUTSIDE` if it is outside `root`. `Path.resolve` would raise
    before Python 3.13 if links form a circle."""
    path = Path(os.path.realpath(file))
    return path if path.is_relative_to(root) else _OUTSIDE
