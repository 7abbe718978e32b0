"""Workarounds for pandas 3, kept out of `compat`, which must not import pandas."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd


def is_known(values: Any, known: Iterable[str]) -> npt.NDArray[np.bool_]:
    """Return whether each value is among the known ones, bool [N]; see `as_objects`."""
    return pd.Index(np.asarray(values, dtype=object), dtype=object).isin(known)


def as_objects(texts: npt.NDArray[np.object_]) -> pd.Series:
    """Return texts as a column of Python objects, which is what pandas 2 makes of them.

    RecBole counts texts and looks them up one by one. With the string type of pandas 3, each such
    step makes an Arrow scalar: ``isin`` of 2 million texts takes 17 s, of objects half a second.
    Remove once pandas no longer makes them.
    """
    return pd.Series(texts, dtype=object)


class Frame(pd.DataFrame):  # type: ignore[misc]
    """A data frame from whose columns RecBole can take the lengths of sequences.

    RecBole calls ``column.agg(len)``, which returns the length of each value in pandas 2, and the
    length of the column in pandas 3. Remove once RecBole calls ``map``.
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
