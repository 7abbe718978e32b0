"""Checkpoints: tensors and plain data, which ``torch.load`` reads with ``weights_only=True``."""

from __future__ import annotations

import os
from collections.abc import Mapping
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from recbole.model.abstract_recommender import AbstractRecommender

_ENUM_KEYS = ("MODEL_TYPE", "MODEL_INPUT_TYPE", "eval_type")
_EMBEDDINGS = "__embeddings__"  # in other_parameter: the fingerprints of the frozen tables


def load_checkpoint(file: str | os.PathLike[str]) -> dict[str, Any]:
    """The content of a checkpoint file, on the CPU.

    Raises:
        ValueError: the file is missing, damaged, or not a checkpoint of this package.
    """
    if not Path(file).is_file():
        raise ValueError(f"checkpoint '{file}' does not exist")
    import torch

    try:
        checkpoint = torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:
        raise ValueError(
            f"checkpoint '{file}' cannot be read ({type(error).__name__}): it is damaged, or was "
            f"not written by recbole_llm; train again, or choose another file"
        ) from error
    if not isinstance(checkpoint, dict) or not isinstance(checkpoint.get("config"), dict):
        raise ValueError(f"checkpoint '{file}' holds no configuration of a trained model")
    return checkpoint


def save_atomically(state: Any, file: str | os.PathLike[str]) -> None:
    """``torch.save`` in one step: a killed process leaves the old file or the new one."""
    import torch

    part = f"{os.fspath(file)}.{os.getpid()}.part"
    torch.save(encode(state), part)
    os.replace(part, file)


def plain_config(config: Any) -> dict[str, Any]:
    """A RecBole configuration as numbers, strings, lists and dicts."""
    return {
        key: _plain(value) for key, value in config.final_config_dict.items() if key != "device"
    }


def _plain(value: Any) -> Any:
    if isinstance(value, Enum):
        return value.name
    if isinstance(value, Mapping):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, (list, tuple, set)):
        return [_plain(v) for v in value]
    if isinstance(value, np.generic):
        return value.item()
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    return str(value) if isinstance(value, Path) else repr(value)


def restore_enums(config: dict[str, Any]) -> dict[str, Any]:
    """The inverse of ``plain_config`` for the three keys that RecBole compares as enums."""
    from recbole.utils import EvaluatorType, InputType, ModelType

    enums = dict(zip(_ENUM_KEYS, (ModelType, InputType, EvaluatorType), strict=True))
    return {k: enums[k][v] if k in enums and v is not None else v for k, v in config.items()}


def model_state(model: AbstractRecommender) -> dict[str, Any]:
    """What a checkpoint holds of a model: RecBole's ``state_dict`` and ``other_parameter``, which
    also names the frozen tables."""
    from torch.nn import Module

    # DIN and FDSA name a sub-module here, whose weights are in the state_dict already.
    other = {k: v for k, v in model.other_parameter().items() if not isinstance(v, Module)}
    fingerprints = embedding_fingerprints(model)
    if fingerprints:
        other[_EMBEDDINGS] = fingerprints
    return {"state_dict": model.state_dict(), "other_parameter": other}


def load_model_state(
    model: AbstractRecommender, checkpoint: Mapping[str, Any], file: str | os.PathLike[str]
) -> None:
    """Put a model into a checkpoint's state.

    Args:
        checkpoint: what `load_checkpoint` gave.
        file: where it lay, for messages.

    Raises:
        ValueError: the checkpoint is of other item vectors, or of a model of another shape.
    """
    other = dict(checkpoint.get("other_parameter") or {})
    check_fingerprints(model, other.pop(_EMBEDDINGS, {}))
    try:
        model.load_state_dict(checkpoint["state_dict"])
    except RuntimeError as error:
        raise ValueError(
            f"checkpoint '{file}' is of a model of another shape; set its keys as they were: "
            f"{error}"
        ) from error
    # Checkpoints are read on the CPU, and torch moves a model's parameters only, not these.
    device = getattr(model, "device", "cpu")
    model.load_other_parameter({k: _moved(decode(v), device) for k, v in other.items()})


def _moved(value: Any, device: Any) -> Any:
    """Tensors, at any depth of lists, on a device."""
    from torch import Tensor

    if isinstance(value, list):
        return [_moved(v, device) for v in value]
    return value.to(device) if isinstance(value, Tensor) else value


def embedding_fingerprints(model: Any) -> dict[str, str]:
    """Fingerprint of each frozen table in the model, whose vectors no checkpoint holds."""
    return {
        name: module.fingerprint
        for name, module in model.named_modules()
        if isinstance(getattr(module, "fingerprint", None), str)
    }


def check_fingerprints(model: Any, saved: Mapping[str, str]) -> None:
    """Raise ValueError if the model's frozen vectors are not those of the checkpoint."""
    current = embedding_fingerprints(model) if saved else {}  # decision trees are no modules
    for name, fingerprint in saved.items():
        if current.get(name) != fingerprint:
            raise ValueError(
                f"the checkpoint was trained on other text embeddings ('{name}': "
                f"{fingerprint[:12]}, now {str(current.get(name))[:12]}); set encoder and "
                f"item_prompt as they were, or train again"
            )


def encode(value: Any) -> Any:
    """NumPy arrays and SciPy matrices, at any depth, as tensors: weights_only=True loads those.

    Tensors come from their device, so that a file does not depend on it.
    """
    from scipy.sparse import issparse
    from torch import Tensor, from_numpy

    if isinstance(value, dict):
        return {k: encode(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [encode(v) for v in value]
    if isinstance(value, Tensor):
        return value.cpu()
    if issparse(value):
        coo = value.tocoo()
        parts = [from_numpy(np.array(a)) for a in (coo.row, coo.col, coo.data)]
        return {"__sparse__": parts, "shape": list(coo.shape), "format": value.format}
    if isinstance(value, np.ndarray):
        return {"__array__": from_numpy(np.array(value)), "matrix": isinstance(value, np.matrix)}
    return value.item() if isinstance(value, np.generic) else value


def decode(value: Any) -> Any:
    """The inverse of ``encode``."""
    if isinstance(value, list):
        return [decode(v) for v in value]
    if not isinstance(value, dict):
        return value
    if "__sparse__" in value:
        from scipy.sparse import coo_matrix

        row, col, data = (t.cpu().numpy() for t in value["__sparse__"])
        return coo_matrix((data, (row, col)), shape=value["shape"]).asformat(value["format"])
    if "__array__" in value:
        array = value["__array__"].cpu().numpy()
        return np.asmatrix(array) if value["matrix"] else array
    return {k: decode(v) for k, v in value.items()}
