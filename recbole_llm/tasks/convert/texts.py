"""Values of a table as texts."""

from __future__ import annotations

import json

import numpy as np
from pandas import DataFrame, Series

LINE = "__line__"  # column of a chunk: the line of each row, from 1


def as_texts(frame: DataFrame) -> DataFrame:
    """All columns but `LINE` as texts: whole numbers without a point, lists joined by spaces."""
    columns = {name: Series(_texts(frame[name]), dtype=object) for name in frame if name != LINE}
    return DataFrame({**columns, LINE: frame[LINE].to_numpy()})


def _texts(column: Series) -> list[str]:
    kind = str(column.dtype).lower()  # Float32 is pandas' nullable type
    if kind in ("float16", "float32"):  # 19.99 is 19.98999977 as a Python float
        numbers = column.to_numpy(kind, na_value=np.nan)
        return [text_of(float(str(number))) for number in numbers]
    if kind.startswith("datetime64[") and len(column):
        dates = _texts_of_dates(column)
        if dates is not None:
            return dates
    values = column.to_numpy(object).tolist()
    kinds = set(map(type, values))
    if kinds in ({int}, {bool}):
        return list(map(str, values))
    if kinds <= {str, type(None)}:
        texts = [value or "" for value in values]
        if _is_encodable("".join(texts)):
            return texts
    return [text_of(value) for value in values]


def _texts_of_dates(column: Series) -> list[str] | None:
    """What `text_of` gives for dates without a time zone or in UTC; a date at a time takes five
    times as long. None: another time zone, or nanoseconds."""
    zone = getattr(column.dtype, "tz", None)
    if zone is not None and str(zone) != "UTC":
        return None
    dates = (column if zone is None else column.dt.tz_localize(None)).to_numpy()
    exact = dates.astype("datetime64[us]")
    if not ((exact == dates) | np.isnat(dates)).all():
        return None
    end = "" if zone is None else "+00:00"
    texts = f"{end}\n".join(np.datetime_as_string(exact)) + end
    texts = texts.replace(f"NaT{end}", "").replace("T", " ")
    return texts.replace(".000000", "").split("\n")


def _is_encodable(text: str) -> bool:
    """Whether a text has no lone surrogates, which UTF-8 cannot hold."""
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


def text_of(value: object) -> str:
    """A value as text: "" for a missing value, the values of a list joined by spaces."""
    if isinstance(value, str):
        return value if value.isascii() else _encodable(value)
    if value is None:
        return ""
    if isinstance(value, bytes):  # from a Parquet file whose writer does not mark texts
        return value.decode("utf-8", "replace")
    if isinstance(value, float) and value.is_integer() and abs(value) < 2**53:
        return str(int(value))  # an id or a time, a float because others are missing
    if isinstance(value, (list, tuple, np.ndarray)):
        return " ".join(text_of(part) for part in value)
    if isinstance(value, dict):
        return _encodable(json.dumps(value, ensure_ascii=False, default=text_of))
    text = str(value)
    return "" if text in ("<NA>", "NaT", "nan") else text


def _encodable(text: str) -> str:
    """The text with ? for lone surrogates, such as JSON's ``"\\ud83d"`` of a cut emoji."""
    return text.encode("utf-8", "replace").decode("utf-8")
