"""The names behind ids, as checkpoints hold them: two tensors per field of any size."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from recbole.data.dataset import Dataset

Vocabulary = Mapping[str, npt.NDArray[Any]]  # field -> its tokens in order of ids, padding first
Packed = dict[str, Any]
PADDING = "[PAD]"  # RecBole's token of the id 0


def vocabulary_of(dataset: Dataset) -> dict[str, npt.NDArray[Any]]:
    """The tokens of a data set's fields."""
    return {str(field): tokens for field, tokens in dataset.field2id_token.items()}


def pack(vocabulary: Vocabulary) -> Packed:
    """Pack tokens as plain data: per field, their characters in UTF-8, uint8 [bytes], and the
    number of characters of each token, int32 [n]. A field that shares the tokens of another field
    holds that field's name."""
    first: dict[int, str] = {}
    packed: Packed = {}
    for field, tokens in vocabulary.items():
        same = first.setdefault(id(tokens), field)
        packed[field] = _pack(tokens) if same == field else same
    return packed


def _pack(tokens: npt.NDArray[Any]) -> dict[str, Any]:
    from torch import from_numpy

    return {name: from_numpy(array) for name, array in encode_names([*map(str, tokens)]).items()}


def encode_names(names: Sequence[str]) -> dict[str, npt.NDArray[Any]]:
    """Encode names without padding: ``utf8``, their characters, uint8 [bytes]; ``lengths``, the
    number of characters of each name, int32 [n]."""
    text = "".join(names).encode("utf-8", "surrogatepass")
    lengths = np.fromiter(map(len, names), np.int32, len(names))
    return {"utf8": np.frombuffer(bytearray(text), np.uint8), "lengths": lengths}


def decode_names(utf8: npt.NDArray[Any], lengths: npt.NDArray[Any]) -> list[str]:
    """The inverse of `encode_names`.

    Raises:
        ValueError: the arrays are invalid or do not fit each other.
    """
    text = utf8.tobytes().decode("utf-8", "surrogatepass")
    if lengths.ndim != 1 or lengths.dtype != np.int32 or (lengths < 0).any():
        raise ValueError("lengths are not int32 of at least 0")
    ends = np.cumsum(lengths, dtype=np.int64).tolist()
    if (ends[-1] if ends else 0) != len(text):
        raise ValueError("lengths do not fit the characters")
    return [text[a:b] for a, b in zip([0, *ends], ends, strict=False)]


def unpack(packed: object) -> dict[str, npt.NDArray[Any]]:
    """The inverse of `pack`.

    Raises:
        ValueError: `pack` cannot have returned this.
    """
    if not isinstance(packed, dict) or not all(isinstance(field, str) for field in packed):
        raise ValueError("holds no tokens of its users and items")
    own = {f: _unpack(f, value) for f, value in packed.items() if not isinstance(value, str)}
    try:
        return {f: own[v] if isinstance(v, str) else own[f] for f, v in packed.items()}
    except KeyError as error:
        raise ValueError(f"holds no tokens of {error}") from None


def _unpack(field: str, packed: Any) -> npt.NDArray[Any]:
    try:
        names = decode_names(packed["utf8"].numpy(), packed["lengths"].numpy())
    except (KeyError, TypeError, AttributeError, ValueError, RuntimeError):
        raise ValueError(f"holds damaged tokens of '{field}'") from None
    if names[:1] != [PADDING] or len(set(names)) != len(names):
        raise ValueError(f"holds damaged tokens of '{field}'")
    return np.array(names, dtype=object)


def check_numbers(present: Vocabulary, stored: object) -> None:
    """Refuse a checkpoint in which ids of the data set stand for other users or items.

    Args:
        stored: the checkpoint's packed tokens; None if it has none.

    Raises:
        ValueError: the tokens of a field differ between the two, or the stored ones are damaged.
    """
    if stored is None:
        return
    try:
        then = unpack(stored)
    except ValueError as error:
        raise ValueError(f"the checkpoint {error}") from None
    if not all(np.array_equal(present[f], then[f]) for f in present.keys() & then.keys()):
        raise ValueError(
            "the data set has other users or items than the checkpoint, or has them in another "
            "order; use the files of the training, or load_data_and_model, which matches by name"
        )
