"""For tests of plugins and of this package: a tiny data set, a fake encoder, a model battery."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from recbole_llm.hookspecs import hookimpl
from recbole_llm.registry import EncoderSpec

_GENRES = ("action", "drama", "comedy", "horror")
_NOUNS = ("river", "castle", "robot", "garden", "planet", "detective", "violin", "storm")


def write_tiny_dataset(
    folder: str | Path, name: str = "tiny", n_users: int = 40, n_items: int = 60, seed: int = 0
) -> Path:
    """Write a data set of RecBole's atomic files whose users follow their genre's items in order.

    Args:
        folder: the ``data_path``; the files go to ``folder/name/``.
        name: data set name.
        n_users, n_items: sizes; histories have 5 to 20 items.
        seed: of everything random.

    Returns:
        The data set's folder with .inter, .item, .user, .kg and .link files.
    """
    rng = np.random.default_rng(seed)
    target = Path(folder) / name
    target.mkdir(parents=True, exist_ok=True)
    genre = [_GENRES[i % len(_GENRES)] for i in range(n_items)]
    _write(target / f"{name}.inter", "user_id:token\titem_id:token\trating:float\ttimestamp:float", (
        f"u{user}\ti{item}\t{rng.integers(1, 6)}\t{1000 + step}"
        for user in range(n_users)
        for step, item in enumerate(_history(rng, user, n_items))
    ))  # fmt: skip
    _write(
        target / f"{name}.item",
        "item_id:token\ttitle:token_seq\tgenre:token\trelease_year:token\tprice:float",
        (
            f"i{i}\tThe {genre[i]} {_NOUNS[i % 8]} {i}\t{genre[i]}\t{1990 + i % 20}\t{i % 7}.5"
            for i in range(n_items)
        ),
    )
    _write(target / f"{name}.user", "user_id:token\tage:token\tgender:token", (
        f"u{u}\t{20 + u % 5}\t{'FM'[u % 2]}" for u in range(n_users)
    ))  # fmt: skip
    _write(target / f"{name}.kg", "head_id:token\trelation_id:token\ttail_id:token", (
        f"e{i}\thas_genre\tg_{genre[i]}" for i in range(n_items)
    ))  # fmt: skip
    _write(target / f"{name}.link", "item_id:token\tentity_id:token", (
        f"i{i}\te{i}" for i in range(n_items)
    ))  # fmt: skip
    return target


def _history(rng: np.random.Generator, user: int, n_items: int) -> list[int]:
    length = int(rng.integers(5, 21))
    start = int(rng.integers(n_items))
    stride = len(_GENRES)
    own = [(user % stride + stride * (start + k)) % n_items for k in range(length)]
    noise = rng.random(length) < 0.1
    return [int(rng.integers(n_items)) if n else i for n, i in zip(noise, own, strict=True)]


def _write(file: Path, header: str, rows: Any) -> None:
    file.write_text("\n".join([header, *rows]) + "\n", encoding="utf-8")


class HashEncoder:
    """Vectors [n, dimension] that depend on each text alone; no model, no download."""

    def __init__(self, dimension: int = 16) -> None:
        self.dimension = dimension
        self.fingerprint = f"hash-{dimension}"

    def encode(self, texts: Sequence[str]) -> np.ndarray:
        """Float32 unit vectors, one a text."""
        rows = [self._vector(text) for text in texts]
        return np.stack(rows) if rows else np.zeros((0, self.dimension), np.float32)

    def _vector(self, text: str) -> np.ndarray:
        total = np.zeros(self.dimension)
        for word in text.lower().split():  # texts that share words are near each other
            digest = hashlib.sha256(word.encode()).digest()
            total += np.random.default_rng(list(digest[:8])).standard_normal(self.dimension)
        return (total / max(float(np.linalg.norm(total)), 1e-12)).astype(np.float32)


def hash_encoder(config: Any) -> HashEncoder:
    """Factory of the encoder kind ``hash``; ``encoder_dimensions`` sets the width."""
    return HashEncoder(int(config["encoder_dimensions"] or 16))


@hookimpl
def register_encoders(register: Any) -> None:
    """This module is a plugin: ``get_plugins().register(recbole_llm.testing, "testing")``."""
    register(EncoderSpec("hash", hash_encoder, "hashed words; for tests"))
