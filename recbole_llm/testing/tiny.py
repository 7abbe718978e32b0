"""A tiny data set of RecBole's atomic files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

_GENRES = ("action", "drama", "comedy", "horror")
_NOUNS = ("river", "castle", "robot", "garden", "planet", "detective", "violin", "storm")


def write_tiny_dataset(
    folder: str | Path, name: str = "tiny", n_users: int = 40, n_items: int = 60, seed: int = 0
) -> Path:
    """Write a data set of RecBole's atomic files whose users follow their genre's items in order.

    Args:
        folder: the ``data_path``; the files go to ``folder/name/``.
        n_users, n_items: sizes; histories have 5 to 20 items.

    Returns:
        The data set's folder with .inter, .item, .user, .kg and .link files.
    """
    rng = np.random.default_rng(seed)
    target = Path(folder) / name
    target.mkdir(parents=True, exist_ok=True)
    genre = [_GENRES[i % len(_GENRES)] for i in range(n_items)]
    header = "user_id:token\titem_id:token\trating:float\ttimestamp:float"
    _write(target / f"{name}.inter", header, (
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
    items = [(user % stride + stride * (start + k)) % n_items for k in range(length)]
    noise = rng.random(length) < 0.1
    return [int(rng.integers(n_items)) if n else i for n, i in zip(noise, items, strict=True)]


def _write(file: Path, header: str, rows: Any) -> None:
    file.write_text("\n".join([header, *rows]) + "\n", encoding="utf-8")
