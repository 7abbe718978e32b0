"""Conversion of arrays and matrices to tensors, the only objects that checkpoints hold."""

from __future__ import annotations

from typing import Any

import numpy as np


def encode(value: Any) -> Any:
    """Convert NumPy arrays and SciPy matrices, at any depth, to tensors for weights_only=True.

    Tensors are moved to the CPU, so that a file does not depend on the device.
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


def decode(value: Any, device: Any = "cpu") -> Any:
    """The inverse of ``encode``, with tensors on a device."""
    from torch import Tensor

    if isinstance(value, list):
        return [decode(v, device) for v in value]
    if not isinstance(value, dict):
        return value.to(device) if isinstance(value, Tensor) else value
    if "__sparse__" in value:
        from scipy.sparse import coo_matrix

        row, col, data = (t.cpu().numpy() for t in value["__sparse__"])
        return coo_matrix((data, (row, col)), shape=value["shape"]).asformat(value["format"])
    if "__array__" in value:
        array = value["__array__"].cpu().numpy()
        return np.asmatrix(array) if value["matrix"] else array
    return {k: decode(v, device) for k, v in value.items()}
