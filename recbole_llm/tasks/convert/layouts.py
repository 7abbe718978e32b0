"""Layouts of common data sets: their files, and the meaning of their columns."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from pathlib import Path
from typing import NamedTuple

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


class _Layout(NamedTuple):
    """The files of a ``ml-*`` folder, and how they are written."""

    ratings: str
    movies: str
    separator: str | None = None
    movie_separator: str | None = None
    movie_names: tuple[str, ...] | None = None
    encoding: str = "utf-8-sig"
    users: str = ""
    user_names: tuple[str, ...] = ()


_MOVIELENS = (
    _Layout("ratings.csv", "movies.csv"),
    _Layout(
        "ratings.dat", "movies.dat", "::", "::", ("movieId", "title", "genres"), "latin-1",
        "users.dat", ("userId", "gender", "age", "occupation", "zip_code"),
    ),
    _Layout(
        "u.data", "u.item", "\t", "|", _MOVIES_100K, "latin-1",
        "u.user", ("userId", "age", "gender", "occupation", "zip_code"),
    ),
)  # fmt: skip
# Each layout: the column of ids, columns of which its tables have at least one (a shop's table may
# have the same name for ids), and the columns with useful texts. Amazon's metadata of 2014, 2018
# and 2023 also has pictures, prices in words and lists of other products.
_TEXTS = (
    (
        "parent_asin",
        {"main_category", "store", "average_rating", "rating_number", "bought_together"},
        ("title", "store", "main_category", "categories"),
    ),
    (
        "asin",
        {"also_buy", "also_view", "main_cat", "imageURL", "imUrl", "salesRank", "related"},
        ("title", "brand", "category", "categories"),
    ),
    ("movieId", {"genres"}, ("title", "genres")),
)


def movielens(folder: Path) -> tuple[Source, Source, Source | None]:
    """The tables of a MovieLens folder: interactions, items and, if it describes them, users.

    Raises:
        ValueError: the folder lacks the files of a MovieLens data set.
    """
    for one in _MOVIELENS:
        ratings, movies = folder / one.ratings, folder / one.movies
        if ratings.is_file() and movies.is_file():
            names = _RATINGS if one.movie_names else None
            users = folder / one.users
            return (
                Source(ratings, one.separator, names, one.encoding),
                _Movies(movies, one.movie_separator, one.movie_names, one.encoding),
                Source(users, one.movie_separator, one.user_names, one.encoding)
                if users.is_file()
                else None,
            )
    known = ", ".join(f"{one.ratings} with {one.movies}" for one in _MOVIELENS)
    raise ValueError(
        f"'{folder}' is a folder without the files of a MovieLens data set ({known}); name the "
        f"file of interactions, and the file of items with --items"
    )


def text_columns(columns: Collection[str]) -> list[str] | None:
    """The text columns of a known layout; None if the layout is unknown."""
    own = set(columns)
    known = (texts for ids, others, texts in _TEXTS if ids in own and others & own)
    texts = next(known, None)
    return None if texts is None else [name for name in texts if name in own]
