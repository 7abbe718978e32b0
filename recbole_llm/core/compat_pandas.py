"""What RecBole needs under pandas 3; apart from `compat`, which loads no pandas."""

from __future__ import annotations

from typing import Any

import pandas as pd


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
