"""Pictures of items: which are read, which are refused, and the features made of them."""

from __future__ import annotations

import contextlib
import io
import logging
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from made_pictures import picture, tiny_dual, tiny_vit
from made_texts import ITEMS, PlainConfig
from PIL import Image

from recbole_llm.features import attach, text
from recbole_llm.features.contents import pictures
from recbole_llm.features.contents.keys import Content
from recbole_llm.features.contents.pictures import Picture, PictureError, read_picture
from recbole_llm.features.encoders import vision
from recbole_llm.features.encoders.base import EncoderError
from recbole_llm.features.images import ItemEncoder
from recbole_llm.features.tables.table import TableError

pytestmark = pytest.mark.usefixtures("no_plugins")
Make = Callable[..., Any]
PLENTY = 10_000


def content(image: Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP"])
def test_formats(kind: str) -> None:
    read = read_picture(content(picture(), kind, quality=95, lossless=True), PLENTY)
    assert (read.mode, read.size) == ("RGB", (40, 30))
    if kind != "JPEG":
        assert np.array_equal(read, picture())


@pytest.mark.parametrize("mode", ["1", "L", "P", "LA", "RGBA", "I;16"])
def test_modes(mode: str) -> None:
    made = Image.new("I;16", (3, 2)) if mode == "I;16" else picture(size=(3, 2)).convert(mode)
    assert read_picture(content(made), PLENTY).mode == "RGB"


@pytest.mark.parametrize("options", [{}, {"transparency": 40_000}])
def test_16_bits_of_gray_are_scaled(options: dict[str, Any]) -> None:
    """Pillow clips such values at 255, which would make the picture white."""
    made = Image.fromarray(np.array([[0, 0x1234, 0x80FF, 0xFFFF]], np.uint16))
    read = np.asarray(read_picture(content(made, **options), PLENTY))
    assert read[0, :, 0].tolist() == [0, 0x12, 0x80, 0xFF]


def test_nothing_is_printed_of_a_picture_that_pillow_warns_of(
    recwarn: pytest.WarningsRecorder,
) -> None:
    broken = b"Exif\0\0MM\0*\0\0\0\x08\0\x05short"
    read_picture(content(picture(), "JPEG", exif=broken), PLENTY)
    with pytest.raises(PictureError, match="too large"):
        read_picture(content(Image.new("1", (10_000, 9_000))), PLENTY)
    assert not list(recwarn)


def test_transparent_pictures_are_on_white() -> None:
    clear = Image.new("RGBA", (2, 2), (10, 20, 30, 0))
    assert read_picture(content(clear), PLENTY).getpixel((0, 0)) == (255, 255, 255)


def test_pictures_are_upright() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # taken with the camera on its side
    assert read_picture(content(picture(), "JPEG", exif=exif), PLENTY).size == (30, 40)


@pytest.mark.parametrize(
    ("made", "reason"),
    [
        (lambda: b"", "broken"),
        (lambda: b"no picture", "broken"),
        (lambda: content(picture())[:-30], "broken"),
        (lambda: content(picture(), "GIF"), "broken"),  # not one of the formats
        (lambda: content(picture(size=(101, 100))), "too large"),
        (
            lambda: content(picture(), "PNG", save_all=True, append_images=[picture(1)]),
            "animated",
        ),
        (
            lambda: content(picture(), "WEBP", save_all=True, append_images=[picture(1)]),
            "animated",
        ),
    ],
)
def test_unusable_files_are_refused_with_the_reason(made: Callable[[], bytes], reason: str) -> None:
    with pytest.raises(PictureError, match=reason):
        read_picture(made(), PLENTY)


@given(st.integers(0, 2000), st.binary(min_size=1, max_size=4))
def test_a_damaged_file_is_read_or_refused(place: int, bytes_: bytes) -> None:
    whole = content(picture(size=(20, 15)))
    damaged = whole[: place % len(whole)] + bytes_ + whole[place % len(whole) + len(bytes_) :]
    with contextlib.suppress(PictureError):
        assert read_picture(damaged, PLENTY).mode == "RGB"


def with_pictures(dataset: Any, **files: bytes) -> Path:
    """Write files to ``images/``; the file ``p10`` is the picture of item 10."""
    folder = Path(dataset.dataset_path) / "images"
    folder.mkdir(exist_ok=True)
    for name, data in files.items():
        (folder / f"{name[1:]}.png").write_bytes(data)
    return folder


@pytest.fixture
def seen(config: PlainConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Configure a tiny ViT as the encoder; return the pictures that it is given."""
    config.update(encoder="image", encoder_model=str(tiny_vit(tmp_path / "vit")))
    shown: list[Any] = []
    real = vision.VisionEncoder.encode_contents

    def encode(self: Any, texts: Any, pictures: Any) -> Any:
        shown.extend(pictures)
        return real(self, texts, pictures)

    monkeypatch.setattr(vision.VisionEncoder, "encode_contents", encode)
    return shown


def test_vectors_of_pictures_are_stored_by_their_bytes(
    config: PlainConfig, make_dataset: Make, seen: list[Any]
) -> None:
    dataset = make_dataset()
    one, two = content(picture(1)), content(picture(2))
    folder = with_pictures(dataset, p10=one, p20=two, p30=one)
    table = text.item_image(config, dataset)
    assert len(seen) == 2, "the same bytes are encoded once"
    np.testing.assert_array_equal(table.matrix[1], table.matrix[3])
    expected = vision.create(config).encode_contents([None], [picture(2)])
    np.testing.assert_allclose(table.matrix[2], expected[0], atol=1e-6)
    assert not table.matrix[0].any()
    seen.clear()
    (folder / "10.png").rename(folder / "10.JPG")  # moved and renamed
    assert text.item_image(config, dataset).fingerprint == table.fingerprint
    assert not seen, "what is stored is not encoded again"
    with_pictures(dataset, p20=content(picture(3)))
    assert text.item_image(config, dataset).fingerprint != table.fingerprint
    assert len(seen) == 1


def test_unusable_pictures_are_counted_named_and_handled_as_missing_texts(
    config: PlainConfig, make_dataset: Make, seen: list[Any], caplog: pytest.LogCaptureFixture
) -> None:
    dataset = make_dataset()
    large = content(Image.new("RGB", (5000, 5000)))
    with_pictures(dataset, p10=content(picture()), p20=b"broken", p30=large)
    with pytest.raises(TableError, match="2 of 3 items have no picture: '20', '30'; .*missing_emb"):
        text.item_image(config, dataset)
    assert not seen, "nothing is encoded before"
    config["missing_embedding"] = "zeros"
    with caplog.at_level(logging.WARNING):
        table = text.item_image(config, dataset)
    assert "pictures of 1 of 3 items; 1 broken ('20'); 1 too large ('30')" in caplog.text
    assert table.matrix.any(1).tolist() == [False, True, False, False]


def test_one_warning_tells_of_missing_pictures(
    config: PlainConfig, make_dataset: Make, seen: list[Any], caplog: pytest.LogCaptureFixture
) -> None:
    dataset = make_dataset()
    with_pictures(dataset, p10=content(picture()))
    config.update(item_feature="item_image", missing_embedding="zeros")
    with caplog.at_level(logging.WARNING):
        text.item_image(config, dataset)
    assert len(caplog.messages) == 1 and "2 missing ('20', '30'); miss" in caplog.messages[0]
    config["item_feature"] = "item_multimodal"  # such items have a text
    pictures.find_pictures(config, dataset, ["10", "20"])
    assert "pictures of 1 of 2 items; 1 missing ('20')" in caplog.messages[1]


def test_usable_pictures_are_decoded_once(
    config: PlainConfig, make_dataset: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    dataset = make_dataset(ITEMS)
    with_pictures(dataset, p10=content(picture()), p20=b"none", p30=content(picture(size=(50, 50))))
    config["item_image_max_pixels"] = 2_000

    def found() -> list[str]:
        return list(pictures.find_pictures(config, dataset, ["10", "20", "30"]))

    assert found() == ["10"]
    decoded = []
    real = pictures.read_picture
    monkeypatch.setattr(pictures, "read_picture", lambda *a: decoded.append(a) or real(*a))
    assert found() == ["10"] and len(decoded) == 2  # the unusable pictures again
    config["item_image_max_pixels"] = 9_000
    assert found() == ["10", "30"] and len(decoded) == 5
    with_pictures(dataset, p20=content(picture(3)))
    assert found() == ["10", "20", "30"] and len(decoded) == 6
    assert found() == ["10", "20", "30"] and len(decoded) == 6


def test_a_column_of_paths(config: PlainConfig, make_dataset: Make, seen: list[Any]) -> None:
    rows = ITEMS.splitlines()
    paths = ["picture:token", "images/a.png", "images/../../out.png", "", "images\\a.png"]
    dataset = make_dataset("\n".join(map("\t".join, zip(rows, paths, strict=True))))
    with_pictures(dataset, pa=content(picture()))
    (Path(dataset.dataset_path).parent / "out.png").write_bytes(content(picture(1)))
    config.update(item_image_field="picture", missing_embedding="zeros")
    found = pictures.find_pictures(config, dataset, ["10", "20", "30", "40"])
    assert set(found) == {"10", "40"}, "no path leads out of the folder; \\ separates, too"
    config["item_image_field"] = "pictur"
    with pytest.raises(ValueError, match="no field 'pictur'; did you mean 'picture'"):
        text.item_image(config, dataset)


def test_no_link_leads_out_of_the_folder(
    config: PlainConfig,
    make_dataset: Make,
    seen: list[Any],
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    dataset = make_dataset(ITEMS)
    with_pictures(dataset, p10=content(picture()))
    folder = Path(dataset.dataset_path) / "images"
    (tmp_path / "secret.png").write_bytes(content(picture(1)))
    (folder / "20.png").symlink_to(tmp_path / "secret.png")
    with caplog.at_level(logging.WARNING):
        assert "20" not in pictures.find_pictures(config, dataset, ["10", "20", "30"])
    said = "pictures of 1 of 3 items; 1 outside the folder ('20'); 1 missing ('30')"
    assert said in caplog.text
    (folder / "20.webp").write_bytes(content(picture(2)))  # after .png in order
    assert "20" in pictures.find_pictures(config, dataset, ["10", "20", "30"])


def test_a_name_that_no_file_can_have_is_an_unusable_picture(
    config: PlainConfig, make_dataset: Make, seen: list[Any], caplog: pytest.LogCaptureFixture
) -> None:
    dataset = make_dataset(f"item_id:token\tpicture:token\n10\t10.png\n20\t{'x' * 300}")
    folder = with_pictures(dataset, p10=content(picture()))
    config.update(item_image_field="picture", item_image_folder=str(folder))
    with caplog.at_level(logging.WARNING):
        assert set(pictures.find_pictures(config, dataset, ["10", "20"])) == {"10"}
    assert "1 unreadable ('20')" in caplog.text or "1 missing ('20')" in caplog.text


@pytest.mark.parametrize("field", [None, "picture"])
def test_a_circle_of_links_is_an_unusable_picture(
    config: PlainConfig, make_dataset: Make, seen: list[Any], field: str | None
) -> None:
    dataset = make_dataset("item_id:token\tpicture:token\n10\t10.png\n20\t20.png")
    with_pictures(dataset, p10=content(picture()))
    folder = Path(dataset.dataset_path) / "images"
    (folder / "20.png").symlink_to("20.png")
    config.update(item_image_field=field, item_image_folder=str(folder))
    assert set(pictures.find_pictures(config, dataset, ["10", "20"])) == {"10"}


def test_a_further_picture_behind_a_jpeg_is_no_animation() -> None:
    made = io.BytesIO()
    picture(0).save(made, "MPO", save_all=True, append_images=[picture(1)])
    with Image.open(io.BytesIO(made.getvalue())) as opened:
        assert opened.format == "MPO"
    read = pictures.read_picture(made.getvalue(), 10**6)
    assert read.size == picture(0).size


def test_no_folder(config: PlainConfig, make_dataset: Make, seen: list[Any]) -> None:
    with pytest.raises(ValueError, match="item_image_folder: .*images' is no folder"):
        text.item_image(config, make_dataset())


def test_items_without_a_picture_go_by_their_text(
    config: PlainConfig, make_dataset: Make, tmp_path: Path
) -> None:
    dataset = make_dataset()
    with_pictures(dataset, p10=content(picture()), p20=b"broken")
    config.update(encoder="multimodal", encoder_model=str(tiny_dual(tmp_path / "clip", "clip")))
    table = text.item_multimodal(config, dataset)
    texts, pictures = np.split(table.matrix, 2, axis=1)
    assert texts.any(1).tolist() == [False, True, True, True]
    assert pictures.any(1).tolist() == [False, True, False, False]
    alone = text.item_text(config, dataset)
    np.testing.assert_allclose(alone.matrix[2], table.matrix[2], atol=1e-6)


@pytest.mark.parametrize(
    ("encoder", "feature", "message"),
    [
        ("hash", "item_image", "item_feature: 'item_image' needs an encoder of pictures"),
        ("image", "item_text", "reads only pictures, but item_feature is 'item_text'"),
        ("image", "item_multimodal", "reads only pictures"),
    ],
)
def test_encoder_and_feature_have_to_fit(
    config: PlainConfig, make_dataset: Make, encoder: str, feature: str, message: str
) -> None:

    config.update(encoder=encoder, item_feature=feature)
    with pytest.raises(ValueError, match=message):
        attach.item_embeddings(config, make_dataset())


def test_models_read_what_item_feature_names(
    config: PlainConfig, make_dataset: Make, seen: list[Any]
) -> None:
    dataset = make_dataset()
    with_pictures(dataset, **{f"p{i}": content(picture(i)) for i in (10, 20, 30)})
    config.update(item_feature="item_image", model="PAD")
    assert attach.model_reads(config) == ("item_image",)
    table = attach.item_embeddings(config, dataset)
    assert attach.attached_features(dataset)["item_image"] is table
    assert dataset._preloaded_weight["item_id"] is table.matrix


def test_a_picture_that_the_model_does_not_take_is_named(tmp_path: Path) -> None:
    class Narrow:
        fingerprint, reads_text = "narrow", False

        def encode_contents(self, texts: Any, images: list[Image.Image]) -> Any:
            if any(image.width > 200 * image.height for image in images):
                raise ValueError("absolute aspect ratio must be smaller than 200")
            return np.ones((len(images), 2), np.float32)

    sizes = {"a": (9, 9), "b": (900, 2), "c": (9, 9)}
    files = {name: tmp_path / f"{name}.png" for name in sizes}
    for number, name in enumerate(sizes):
        files[name].write_bytes(content(picture(number, sizes[name])))
    contents = [
        Content(None, Picture(file, sha256(file.read_bytes()).hexdigest()))
        for file in files.values()
    ]
    said = "picture '.*b.png' cannot be encoded .absolute aspect .*missing_embedding"
    with pytest.raises(EncoderError, match=said):
        ItemEncoder(Narrow(), PLENTY).encode(contents)
