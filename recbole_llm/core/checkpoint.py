"""Checkpoints: tensors and plain data, which ``torch.load`` reads with ``weights_only=True``."""

from __future__ import annotations

import os
from collections.abc import Mapping
from enum import Enum
from pathlib import Path
from typing import Any

import numpy as np

_ENUM_KEYS = ("MODEL_TYPE", "MODEL_INPUT_TYPE", "eval_type")


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


def embedding_fingerprints(model: Any) -> dict[str, str]:
    """Fingerprint of each frozen table in the model, whose vectors no checkpoint holds."""
    return {
        name: module.fingerprint
        for name, module in model.named_modules()
        if isinstance(getattr(module, "fingerprint", None), str)
    }


def check_fingerprints(model: Any, saved: Mapping[str, str]) -> None:
    """Raise ValueError if the model's frozen vectors are not those of the checkpoint."""
    current = embedding_fingerprints(model)
    for name, fingerprint in saved.items():
        if current.get(name) != fingerprint:
            raise ValueError(
                f"the checkpoint was trained on other text embeddings ('{name}': "
                f"{fingerprint[:12]}, now {str(current.get(name))[:12]}); set encoder and "
                f"item_prompt as they were, or train again"
            )


def encode(value: Any) -> Any:
    """NumPy arrays and SciPy matrices, at any depth, as tensors: weights_only=True loads those."""
    from scipy.sparse import issparse
    from torch import from_numpy

    if isinstance(value, dict):
        return {k: encode(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [encode(v) for v in value]
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
