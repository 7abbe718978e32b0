"""Reading checkpoints: tensors and plain data, nothing that runs code."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import torch


def load_checkpoint(file: str | os.PathLike[str]) -> dict[str, Any]:
    """The content of a checkpoint file, on the CPU.

    Raises:
        ValueError: the file is missing, damaged, or not a checkpoint of this package.
    """
    if not Path(file).is_file():
        raise ValueError(f"checkpoint '{file}' does not exist")
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
