"""Checkpoints: tensors and plain data, which ``torch.load`` reads with ``weights_only=True``.

A file may come from anyone, so its content is read within bounds and checked before use.
"""

from __future__ import annotations

import os
import warnings
import zipfile
from collections.abc import Container, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from recbole_llm.core.checkpoints.fingerprints import check_fingerprints, embedding_fingerprints
from recbole_llm.core.checkpoints.plain import decode, encode
from recbole_llm.core.errors import and_more, missing_file_error, one_line
from recbole_llm.core.files import written_whole
from recbole_llm.core.model_traits import other_parameter_names

if TYPE_CHECKING:
    from recbole.model.abstract_recommender import AbstractRecommender
    from torch import Tensor

# Rows that a matrix may have for each byte of the file; "lil" (ItemKNN) has two lists per row.
_ROWS_A_BYTE = {"csr": 8, "csc": 8, "coo": 8, "lil": 1 / 16}
STOPPED = "run"  # key of a checkpoint: the state of a run that has not ended
_EMBEDDINGS = "__embeddings__"  # in other_parameter: the fingerprints of the frozen tables
_MAX_NODES = 5_000_000  # values in a checkpoint; repeated objects are counted each time
_MAX_DEPTH = 50
_MAX_GROWTH = 64  # largest tensor, as a multiple of the file's size; strides may repeat values
_FREE = "free some space, or set another folder (checkpoint_dir; for compare, --output)"
_SHOWN = 3  # parameters in a message


def load_checkpoint(file: str | os.PathLike[str]) -> dict[str, Any]:
    """The content of a checkpoint file, on the CPU.

    Raises:
        ValueError: the file is missing, damaged, or not a checkpoint of this package.
    """
    if not Path(file).is_file():
        raise missing_file_error("checkpoint", file, "*.pth")
    import torch

    try:
        _check_archive(file)
        with warnings.catch_warnings(action="ignore"):  # about content that is refused anyway
            checkpoint = torch.load(file, map_location="cpu", weights_only=True)
        _check_values(checkpoint, os.path.getsize(file))
    except Exception as error:
        raise ValueError(
            f"checkpoint '{file}' cannot be read ({type(error).__name__}): it is damaged, or was "
            f"not written by recbole_llm (RecBole's own hold pickled objects, which are never "
            f"read); train again, or choose another file"
        ) from error
    if not isinstance(checkpoint, dict) or not isinstance(checkpoint.get("config"), dict):
        raise ValueError(f"checkpoint '{file}' holds no configuration of a trained model")
    return checkpoint


def _check_archive(file: str | os.PathLike[str]) -> None:
    """Refuse files that ``torch.save`` did not write: its archives have no compressed parts."""
    with zipfile.ZipFile(file) as archive:
        size = sum(part.file_size for part in archive.infolist())
    if size > os.path.getsize(file):
        raise ValueError("its parts are larger than the file")


def _check_values(value: object, size: int) -> None:
    """Refuse types other than plain data, values that contain themselves, and tensors or matrices
    that are too large for the file."""
    from torch import Tensor

    nodes, stack = 0, [(value, 0)]
    while stack:
        value, depth = stack.pop()
        nodes += 1
        if nodes > _MAX_NODES or depth > _MAX_DEPTH:
            raise ValueError("it holds too many values")
        if isinstance(value, Tensor):
            _check_size(value, size)
        elif isinstance(value, dict):
            _check_sparse(value, size)
            stack += [(part, depth + 1) for pair in value.items() for part in pair]
        elif isinstance(value, (list, tuple, set)):
            stack += [(part, depth + 1) for part in value]
        elif value is not None and not isinstance(value, (bool, int, float, str)):
            raise TypeError(f"it holds a {type(value).__name__}")


def _check_size(tensor: Tensor, size: int) -> None:
    import torch

    dense = tensor.layout == torch.strided
    if (
        tensor.is_quantized
        or any(n > 8 * size for n in tensor.shape if not dense)
        or (dense and tensor.numel() * tensor.element_size() > _MAX_GROWTH * size)
    ):
        raise ValueError("it holds a tensor that is larger than the file")


def _check_sparse(value: dict[Any, Any], size: int) -> None:
    """Refuse a sparse matrix whose shape is too large for the file: `decode` allocates memory
    according to that shape."""
    if "__sparse__" not in value:
        return
    most = _ROWS_A_BYTE.get(str(value.get("format")))
    if most is None:
        raise ValueError("it holds a matrix of an unknown form")
    rows, columns = map(int, value["shape"])
    if not (0 <= rows <= most * size and 0 <= columns <= 8 * size):
        raise ValueError("it holds a matrix that is larger than the file")


def write_checkpoint(state: object, file: str | os.PathLike[str], way_out: str = _FREE) -> None:
    """Save a checkpoint atomically: a killed process leaves the old file or the new one.

    Raises:
        ValueError: in one line: the file, why it cannot be written, and the way out.
    """
    import torch

    with written_whole(file, way_out) as opened:
        torch.save(encode(state), opened)


def require(checkpoint: Mapping[str, Any], keys: Iterable[str], file: object) -> None:
    """Raise ValueError for the parts that a checkpoint lacks."""
    missing = [key for key in keys if key not in checkpoint]
    if missing:
        raise ValueError(
            f"checkpoint '{file}' holds no {', '.join(missing)}: it was not written by a trainer "
            f"of this version of recbole_llm; train again, or choose another file"
        )


def model_state(model: AbstractRecommender) -> dict[str, Any]:
    """The model's part of a checkpoint: RecBole's ``state_dict`` and ``other_parameter``, which
    also holds the fingerprints of the frozen tables."""
    from torch.nn import Module

    # DIN and FDSA list a submodule here, but its weights are already in the state_dict.
    other = {k: v for k, v in model.other_parameter().items() if not isinstance(v, Module)}
    fingerprints = embedding_fingerprints(model)
    if fingerprints:
        other[_EMBEDDINGS] = fingerprints
    return {"state_dict": model.state_dict(), "other_parameter": other}


def load_model_state(
    model: AbstractRecommender,
    checkpoint: Mapping[str, Any],
    file: str | os.PathLike[str],
    compared: Container[str] = (),
) -> None:
    """Load a checkpoint's state into a model.

    Args:
        model: built from the same settings.
        checkpoint: as `load_checkpoint` returns it.
        file: the checkpoint's file, for messages.
        compared: fingerprints of the tables that were already compared row by row.

    Raises:
        ValueError: the checkpoint was trained on other item vectors, is of another model or of one
            of another shape, is damaged, or holds NaN or no weights.
    """
    require(checkpoint, ("state_dict",), file)
    state, other = checkpoint["state_dict"], checkpoint.get("other_parameter") or {}
    if not isinstance(state, dict) or not isinstance(other, dict):
        raise ValueError(f"checkpoint '{file}' holds no weights of a model")
    check_fingerprints(model, other.get(_EMBEDDINGS, {}), compared)
    own = other_parameter_names(model)
    foreign = [str(key) for key in other if key not in own and key != _EMBEDDINGS]
    if foreign:
        raise ValueError(f"checkpoint '{file}' is of another model: it holds '{foreign[0]}'")
    _check_finite(state, file)
    try:
        model.load_state_dict(state)
    except (RuntimeError, TypeError, AttributeError) as error:
        raise ValueError(
            f"checkpoint '{file}' is of a model of another shape ({_differences(model, state)}); "
            f"set the model's keys as in training"
        ) from error
    # Checkpoints are read on the CPU, and torch moves a model's parameters only, not these.
    device = getattr(model, "device", "cpu")
    try:
        values = {k: decode(v, device) for k, v in other.items() if k in own}
    except (KeyError, TypeError, AttributeError, ValueError, IndexError) as error:
        raise ValueError(f"checkpoint '{file}' is damaged ({one_line(error)})") from error
    model.load_other_parameter(values)


def _check_finite(state: Mapping[Any, Any], file: object) -> None:
    from torch import Tensor

    for name, value in state.items():
        if isinstance(value, Tensor) and value.is_floating_point() and value.isnan().any():
            raise ValueError(
                f"checkpoint '{file}' holds NaN in '{name}': its training diverged; lower "
                f"learning_rate and train again"
            )


def _differences(model: AbstractRecommender, state: Mapping[Any, Any]) -> str:
    """The first parameters that differ, with both shapes."""
    own = model.state_dict()
    found = []
    for name in [*own, *(key for key in state if key not in own)]:
        here, there = (tuple(getattr(s.get(name), "shape", ())) for s in (own, state))
        if name not in state or name not in own:
            found.append(f"{name} is only in {'the model' if name in own else 'the file'}")
        elif here != there:
            found.append(f"{name} {there} in the file, {here} in the model")
    shown = "; ".join(found[:_SHOWN]) or "its values are not tensors"
    return one_line(shown, 400) + and_more(found, _SHOWN)
