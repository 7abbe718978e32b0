"""Files of named vectors, in the formats of docs/encoders.md."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any
from zipfile import ZipFile, is_zipfile

import numpy as np

from recbole_llm.core.digest import file_digest
from recbole_llm.core.errors import first_names, install_command, one_line
from recbole_llm.core.files import written_whole
from recbole_llm.data.reading.files import Table
from recbole_llm.features.tables.table import EmbeddingTable, TableError, has_vector

NamedVectors = tuple[Any, Iterable[Any]]  # vectors [n, D], tokens
Form = tuple[str, str, str]  # of atomic files: separators of fields and sequences, encoding


def read_table(
    path: Path, form: Form = ("\t", " ", "utf-8"), dimensions: int | None = None
) -> EmbeddingTable:
    """The table in a file; its fingerprint covers the file's bytes.

    Args:
        path: its suffix determines the file format.
        form: of atomic files.
        dimensions: width that the vectors must have, if any.

    Raises:
        TableError: it is not such a file, its rows differ in width, a token has two rows.
    """
    reader = _READERS.get(path.suffix.lower())
    try:
        if reader is None:
            vectors, tokens = _read_atomic(path, form)
        else:
            vectors, tokens = reader(path)
        table = EmbeddingTable.build(vectors, tokens, _fingerprint(path))
    except ImportError as error:
        raise TableError(
            f"'{path}' needs a package: {install_command(str(error.name).partition('.')[0])}"
        ) from error
    except TableError as error:
        raise TableError(f"'{path}': {error}") from error
    except Exception as error:  # whatever a damaged file makes its reader raise
        raise TableError(
            f"'{path}' cannot be read as {path.suffix or 'an atomic file'} of named vectors "
            f"({type(error).__name__}: {one_line(error)})"
        ) from error
    if dimensions is not None and table.dimension != dimensions:
        raise TableError(
            f"'{path}' has vectors of width {table.dimension}, encoder_dimensions is {dimensions}"
        )
    return table


def write_npz(file: str | Path, table: EmbeddingTable, way_out: str) -> int:
    """Write the rows that are vectors, which excludes padding, for `read_table` to read; return
    their number.

    Raises:
        ValueError: the file cannot be written; the message has the reason and `way_out`.
    """
    rows: list[int] = np.flatnonzero(has_vector(table.matrix)).tolist()
    tokens, made = np.array([table.tokens[row] for row in rows]), np.array(table.fingerprint)
    with written_whole(file, way_out) as opened:
        np.savez(opened, tokens=tokens, vectors=table.matrix[rows], fingerprint=made)
    return len(rows)


def was_written(file: str | Path) -> bool:
    """Whether `write_npz` wrote a file: only then does it hold the vectors' fingerprint."""
    if not is_zipfile(file):
        return False
    with ZipFile(file) as arrays:
        return "fingerprint.npy" in arrays.namelist()


def _fingerprint(path: Path) -> str:
    tokens = path.with_suffix(".tokens")
    named_beside = path.suffix.lower() in (".npy", ".safetensors") and tokens.is_file()
    return file_digest(path) + (file_digest(tokens) if named_beside else "")


def _tokens_beside(path: Path) -> list[str]:
    file = path.with_suffix(".tokens")
    if not file.is_file():
        raise TableError(f"its rows have no names: put them into '{file}', one per line")
    return file.read_text(encoding="utf-8-sig").removesuffix("\n").split("\n")


def _read_npy(path: Path) -> NamedVectors:
    return np.load(path, mmap_mode="r", allow_pickle=False), _tokens_beside(path)


def _read_npz(path: Path) -> NamedVectors:
    with np.load(path, allow_pickle=False) as file:
        if "vectors" not in file or "tokens" not in file:
            raise TableError(
                f"it has the arrays {first_names(file.files)}; 'vectors' and 'tokens' are needed"
            )
        try:
            tokens = file["tokens"]
        except ValueError:  # the error for objects tells how to load them, which is unsafe
            raise TableError(
                "its tokens are Python objects, which are never unpickled; write them as "
                "np.array(tokens, str)"
            ) from None
        if tokens.dtype.kind == "S":
            tokens = np.char.decode(tokens, "utf-8")
        return file["vectors"], tokens.tolist()


def _read_safetensors(path: Path) -> NamedVectors:
    from safetensors import safe_open

    with safe_open(path, "pt") as file:
        names = list(file.keys())
        if len(names) != 1 and "vectors" not in names:
            raise TableError(f"it has the tensors {first_names(names)}, but 'vectors' is needed")
        vectors = file.get_tensor("vectors" if "vectors" in names else names[0])
        tokens = (file.metadata() or {}).get("tokens")
    return vectors.float().numpy(), json.loads(tokens) if tokens else _tokens_beside(path)


def _read_parquet(path: Path) -> NamedVectors:
    import pyarrow
    import pyarrow.parquet

    table = pyarrow.parquet.read_table(path)
    # The index of a data frame whose rows were selected or shuffled is not part of a vector.
    names = [name for name in table.column_names if not name.startswith("__index_level_")]
    key = "token" if "token" in names else names[0]
    values = ["vector"] if "vector" in names else [name for name in names if name != key]
    if len(values) == 1 and pyarrow.types.is_nested(table.schema.field(values[0]).type):
        return _stack_lists(table.column(values[0]), table.column(key).to_pylist())
    columns = [table.column(name).to_numpy() for name in values]
    _refuse_columns(
        [name for name, c in zip(values, columns, strict=True) if c.dtype.kind not in "fiu"]
    )
    return np.stack(columns, axis=1), table.column(key).to_pylist()


def _stack_lists(column: Any, tokens: list[Any]) -> NamedVectors:
    """A column of lists as a matrix, without a Python object for each number."""
    import pyarrow
    import pyarrow.compute

    lists = column.combine_chunks()
    if pyarrow.types.is_list(lists.type) or pyarrow.types.is_fixed_size_list(lists.type):
        widths = pyarrow.compute.list_value_length(lists)
        if widths.null_count == 0 and len(widths.unique()) == 1:
            numbers = lists.flatten().to_numpy(zero_copy_only=False)
            return np.asarray(numbers, np.float32).reshape(len(tokens), -1), tokens
    return _stack_rows(tokens, lists.to_pylist())


def _read_csv(path: Path) -> NamedVectors:
    import pandas as pd

    key = pd.read_csv(path, nrows=0).columns
    name = "token" if "token" in key else key[0]
    if "token" in key and any(column.startswith("Unnamed: ") for column in key):
        raise TableError(
            "it has a column without a name beside 'token', such as the index of a data frame; "
            "write it without (to_csv(…, index=False))"
        )
    frame = pd.read_csv(path, dtype={name: str}, keep_default_na=False)
    if frame.empty:
        raise TableError("it has no rows")
    numbers = frame.drop(columns=name).apply(pd.to_numeric, errors="coerce")
    _refuse_columns(numbers.columns[numbers.isna().all()].tolist())
    if (broken := frame[name][numbers.isna().any(axis=1)]).size:
        raise TableError(
            f"{len(broken)} of {len(frame)} vectors lack a number: {first_names(broken)}"
        )
    return numbers.to_numpy(np.float32), frame[name].tolist()


def _refuse_columns(columns: Sequence[str]) -> None:
    """Refuse columns that hold no part of a vector."""
    if columns:
        raise TableError(f"columns that are no numbers: {first_names(columns)}; leave them out")


def _read_pt(path: Path) -> NamedVectors:
    from pickle import UnpicklingError

    import torch

    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except UnpicklingError:  # its message tells how to load the file, which is unsafe
        raise TableError(
            "it cannot be read as .pt: it is damaged, or holds more than tensors and plain data"
        ) from None
    if not isinstance(content, dict):
        raise TableError("it holds no dict: write {'tokens': [...], 'vectors': tensor}")
    if set(content) == {"tokens", "vectors"}:
        tokens = content["tokens"]
        named = tokens.tolist() if isinstance(tokens, torch.Tensor) else tokens
        return content["vectors"].detach().float().numpy(), named
    rows = [torch.as_tensor(row).detach().float().numpy() for row in content.values()]
    return _stack_rows(list(content), rows)


def _read_atomic(path: Path, form: Form) -> NamedVectors:
    separator, inner, encoding = form
    file = Table.read(path, separator, encoding)
    key = next((f for f, kind in file.types.items() if kind == "token"), None)
    value = next((f for f, kind in file.types.items() if kind == "float_seq"), None)
    if key is None or value is None:
        raise TableError(
            f"its fields are {file.describe_fields()}; one :token and one :float_seq are needed"
        )
    rows = [[float(x) for x in text.split(inner) if x] for text in file.columns[value]]
    return _stack_rows(file.columns[key].tolist(), rows)


def _stack_rows(tokens: list[Any], rows: list[Any]) -> NamedVectors:
    """Rows of numbers as a matrix, or an error that names those of another width."""
    widths = [0 if row is None else len(row) for row in rows]
    usual = max(set(widths), key=widths.count) if widths else 0
    odd = [token for token, width in zip(tokens, widths, strict=True) if width != usual]
    if odd:
        raise TableError(
            f"{len(odd)} of {len(rows)} vectors are not {usual} wide: {first_names(odd)}"
        )
    return np.array(rows, np.float32).reshape(len(rows), usual), tokens


_READERS: dict[str, Callable[[Path], NamedVectors]] = {
    ".npy": _read_npy,
    ".npz": _read_npz,
    ".safetensors": _read_safetensors,
    ".parquet": _read_parquet,
    ".csv": _read_csv,
    ".pt": _read_pt,
    ".pth": _read_pt,
}
