"""Vectors made elsewhere, from a file whose rows are named by token."""

from __future__ import annotations

from pathlib import Path

from recbole_llm.core.files import expanded
from recbole_llm.core.settings import ConfigLike
from recbole_llm.data.reading.files import file_format
from recbole_llm.features.encoders.base import EncoderError
from recbole_llm.features.encoders.settings import PrecomputedSettings
from recbole_llm.features.settings import EncoderSettings
from recbole_llm.features.tables.table import EmbeddingTable
from recbole_llm.features.tables.table_io import read_table

_KEYS = {"item": "embedding_path", "user": "user_embedding_path"}


def create(config: ConfigLike) -> Precomputed:
    """Factory of the encoder kind ``precomputed``.

    Raises:
        EncoderError: `embedding_path` is not set, or a file does not exist.
    """
    own = PrecomputedSettings.of(config)
    paths = {kind: _find_file(config, key, getattr(own, key)) for kind, key in _KEYS.items()}
    if not any(paths.values()):
        raise EncoderError("set embedding_path to the file of vectors")
    separator, encoding = file_format(config)
    form = separator, config["seq_separator"] or " ", encoding
    return Precomputed(paths, EncoderSettings.of(config).encoder_dimensions, form)


def _find_file(config: ConfigLike, key: str, name: str | None) -> Path | None:
    if name is None:
        return None
    candidates = [expanded(name), Path(config["data_path"] or ".") / name]
    found = next((p for p in candidates if p.is_file()), None)
    if found is None:
        what = "is a folder, not a file" if candidates[0].is_dir() else "does not exist"
        raise EncoderError(f"{key}: '{name}' {what}, here or in the data set's folder")
    return found


class Precomputed:
    """Tables of vectors by token.

    Args:
        paths: {``item``: file, ``user``: file}; None for a kind without a file.
        form: format of RecBole's atomic files: separators of fields and of sequences, encoding.
    """

    def __init__(
        self, paths: dict[str, Path | None], dimensions: int | None, form: tuple[str, str, str]
    ) -> None:
        self._paths, self._dimensions, self._form = paths, dimensions, form

    def table(self, kind: str) -> EmbeddingTable:
        """All vectors of ``item`` or ``user``, in the file's order.

        Raises:
            EncoderError: no file is given for the kind.
            TableError: the file cannot be read as a table, or has another width.
        """
        path = self._paths[kind]
        if path is None:
            raise EncoderError(
                f"encoder 'precomputed' has no {kind} vectors: set {_KEYS[kind]} to their file"
            )
        return read_table(path, self._form, self._dimensions)
