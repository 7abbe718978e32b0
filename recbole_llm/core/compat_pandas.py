"""Workarounds for pandas 3; apart from `compat`, which loads no pandas."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd


def is_known(values: Any, known: Iterable[str]) -> npt.NDArray[np.bool_]:
    """Which values are known, bool [N]; see `as_objects`."""
    return pd.Index(np.asarray(values, dtype=object), dtype=object).isin(known)


def as_objects(texts: npt.NDArray[np.object_]) -> pd.Series:
    """A column of texts as objects, as pandas 2 has them.

    RecBole counts them one by one, and looks them up; of pandas 3's own strings each step of that
    makes an Arrow scalar: ``isin`` of 2 million takes 17 s, of objects half a second. Goes with a
    pandas that does not.
    """
    return pd.Series(texts, dtype=object)


class Frame(pd.DataFrame):  # type: ignore[misc]
    """A data frame whose columns RecBole can take the lengths of sequences from.

    It asks ``column.agg(len)`` for them, which is each value's length to pandas 2 and the
    column's to pandas 3. Goes with a RecBole that says ``map``.
    """

    @property
    def _constructor(self) -> type[Frame]:
        return Frame

    @property
    def _constructor_sliced(self) -> type[_Column]:
        return _Column


class _Column(pd.Series):  # type: ignore[misc]
    @property
    def _constructor(self) -> type[_Column]:
        return _Column

    @property
    def _constructor_expanddim(self) -> type[Frame]:
        return Frame

    def agg(self, func: Any = None, *args: object, **kwargs: object) -> Any:
        return self.map(len) if func is len else super().agg(func, *args, **kwargs)
