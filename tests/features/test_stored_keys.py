"""Keys and fingerprints equal those in caches and checkpoints of earlier versions."""

from __future__ import annotations

import sqlite3
from base64 import b64decode
from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from made_texts import PlainConfig

from recbole_llm.data.rows import training
from recbole_llm.features import text
from recbole_llm.features.contents import pictures
from recbole_llm.features.stored.store import FILE_NAME

pytestmark = pytest.mark.usefixtures("no_plugins")
PNG = b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5E"
    "rkJggg=="
)


class BothEncoder:
    """Reads texts and pictures."""

    fingerprint, reads_text = "both", True

    def encode(self, texts: Sequence[str]) -> np.ndarray:
        return np.ones((len(texts), 2), np.float32)

    def encode_contents(self, texts: Sequence[Any], images: Sequence[Any]) -> np.ndarray:
        return self.encode(texts)


@pytest.fixture
def dataset(
    make_dataset: Callable[..., Any], config: PlainConfig, monkeypatch: pytest.MonkeyPatch
) -> Any:
    """Items 10 and 20 have a picture; the file of item 20 has another format's suffix."""
    made = make_dataset()
    folder = Path(made.dataset_path) / "images"
    folder.mkdir()
    for name in ("10.png", "20.jpg"):
        (folder / name).write_bytes(PNG)
    history = np.array([1, 1, 3]), np.array([1, 2, 2])
    monkeypatch.setattr(training, "training_interactions", lambda dataset: history)
    monkeypatch.setattr(text, "create_encoder", lambda config: BothEncoder())
    config["missing_embedding"] = "zeros"
    return made


def stored(config: PlainConfig, query: str) -> list[Any]:
    with closing(sqlite3.connect(Path(config["embedding_cache_dir"]) / FILE_NAME)) as file:
        return sorted(file.execute(query))


@pytest.mark.parametrize(
    ("feature", "keys", "fingerprint", "contents"),
    [
        (
            "item_text",
            ["152b7129e7f27858", "855250894e93d23c", "af7f368d7eb6d232"],
            "dcd251cb79df3f9b2239aff0784920a1",
            [0, 9183376791420056954, -2807242364717653958, -8758554627701957036],
        ),
        (
            "item_image",
            ["734cada1126d6ab4"],
            "4e65e18a2aa9337fba36d79eb8b91ad9",
            [0, -94823222006868, -94823222006868, 0],
        ),
        (
            "item_multimodal",
            ["5995388894d42fa2", "757fb9140c142c63", "c42643b92783f24f"],
            "aa74a91c0062591e85c54a59c083a1de",
            [0, -1211116958036663331, -1137460703694428105, -3038046406906043072],
        ),
        (
            "user_text",
            ["b6223f3200d613ad", "f78f0835500a9703"],
            "6637b8e071a995052a159609c3a7ae59",
            [0, 2665441065414252222, 0, -3222212302784284654],
        ),
    ],
)
def test_vectors_are_stored_under_the_same_keys(
    config: PlainConfig, dataset: Any, feature: str, keys: list[str], fingerprint: str,
    contents: list[int],
) -> None:  # fmt: skip
    table = getattr(text, feature)(config, dataset)
    found = [key for (key,) in stored(config, "SELECT lower(substr(hex(key), 1, 16)) FROM vectors")]
    assert found == keys
    assert table.fingerprint == fingerprint
    assert table.contents.tolist() == contents


def test_usable_pictures_are_marked_under_the_same_key(config: PlainConfig, dataset: Any) -> None:
    config["item_image_max_pixels"] = 100
    assert len(pictures.find_pictures(config, dataset, ["10", "20", "30"])) == 2
    found = stored(config, "SELECT lower(hex(key)), text FROM texts")
    assert found == [("1a3816e112743fb4c41cbabd133ae454f3f255b7", b"usable")]
