"""Data sets that many people have: where their files lie, and which columns are what."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from pandas import DataFrame

from recbole_llm.tasks.convert.sources import Source

_GENRES = (
    "unknown", "Action", "Adventure", "Animation", "Children's", "Comedy", "Crime", "Documentary",
    "Drama", "Fantasy", "Film-Noir", "Horror", "Musical", "Mystery", "Romance", "Sci-Fi",
    "Thriller", "War", "Western",
)  # fmt: skip
_RATINGS = ("userId", "movieId", "rating", "timestamp")
_MOVIES_100K = ("movieId", "title", "released", "video", "imdb", *_GENRES)


class _Movies(Source):
    """MovieLens' movies, whose genres are flags, or separated by bars."""

    def chunks(self) -> Iterator[DataFrame]:
        for chunk in super().chunks():
            if "genres" not in chunk:
                flags = chunk[list(_GENRES)].to_numpy() == "1"
                chunk["genres"] = [" ".join(np.array(_GENRES)[row]) for row in flags]
            chunk["genres"] = [text.replace("|", " ") for text in chunk["genres"]]
            yield chunk


@dataclass(frozen=True)
class MovieLens:
    """The two files of a ``ml-*`` folder."""

    ratings: str
    movies: str
    separator: str | None = None
    movie_separator: str | None = None
    movie_names: tuple[str, ...] | None = None
    encoding: str = "utf-8-sig"

    def sources(self, folder: Path) -> tuple[Source, Source]:
        """Interactions and items."""
        names = _RATINGS if self.movie_names else None
        own: dict[str, Any] = {"encoding": self.encoding}
        return (
            Source(folder / self.ratings, self.separator, names, **own),
            _Movies(folder / self.movies, self.movie_separator, self.movie_names, **own),
        )


_MOVIELENS = (
    MovieLens("ratings.csv", "movies.csv"),
    MovieLens("ratings.dat", "movies.dat", "::", "::", ("movieId", "title", "genres"), "latin-1"),
    MovieLens("u.data", "u.item", "\t", "|", _MOVIES_100K, "latin-1"),
)
# Columns of the items that say something, by one that only this layout has. Amazon's metadata of
# 2018 and of 2023 have pictures, prices in words and lists of other products besides.
_TEXTS = {
    "parent_asin": ("title", "store", "main_category", "categories"),
    "also_buy": ("title", "brand", "category"),
    "asin": ("title", "brand", "category", "categories"),
    "movieId": ("title", "genres"),
}


def movielens(folder: Path) -> tuple[Source, Source]:
    """Interactions and items of a folder of MovieLens.

    Raises:
        ValueError: the folder is of another kind.
    """
    for layout in _MOVIELENS:
        if (folder / layout.ratings).is_file() and (folder / layout.movies).is_file():
            return layout.sources(folder)
    names = ", ".join(f"{one.ratings} with {one.movies}" for one in _MOVIELENS)
    raise ValueError(
        f"'{folder}' is a folder without the files of a MovieLens data set ({names}); name the "
        f"file of interactions, and with --items that of the items"
    )


def text_columns(columns: Collection[str]) -> list[str] | None:
    """The columns of texts where the layout is known; None where it is not."""
    known = next((texts for mark, texts in _TEXTS.items() if mark in columns), None)
    return None if known is None else [name for name in known if name in columns]
