"""A folder in sentence-transformers' layout, read without the library."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from recbole_llm.features.encoders.base import EncoderError
from recbole_llm.features.encoders.locate import read_json

_NAMING = ("activation_function", "tokenizer_class")  # keys of modules' files that name classes
_OWN = ("sentence_transformers.", "torch.nn.")


def max_text_tokens(folder: Path) -> int | None:
    """Number of tokens of a text that are read; None if the folder does not say. From version 6 on,
    the library writes it only into the tokenizer's configuration."""
    own = read_json(folder / "sentence_bert_config.json").get("max_seq_length")
    said = own or read_json(folder / "tokenizer_config.json").get("model_max_length")
    positions = read_json(folder / "config.json").get("max_position_embeddings")
    limits = [n for n in (said, positions) if isinstance(n, int) and n > 0]
    return min(limits, default=None)


def check_modules(folder: Path) -> None:
    """Refuse a model with modules other than the library's: before version 6, the library runs code
    from a local folder that names such modules.

    Raises:
        EncoderError: there is such a module, or a file is damaged; the message names it.
    """
    file = folder / "modules.json"
    try:
        _check_names(file, [part["type"] for part in read_json(file, list)])
    except (KeyError, TypeError) as error:
        raise EncoderError(f"'{file}' is damaged") from error
    for file in folder.rglob("*config.json"):
        found = read_json(file, dict, list)
        if isinstance(found, dict):
            types = found.get("types")  # of a router
            named = [found[key] for key in _NAMING if key in found]
            _check_names(file, [*named, *(types.values() if isinstance(types, dict) else ())])


def _check_names(file: Path, names: Iterable[object]) -> None:
    for name in map(str, names):
        if "." in name and not name.startswith(_OWN):
            raise EncoderError(f"'{file}' names custom code, {name}, which is not run")
