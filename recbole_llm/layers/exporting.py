"""Detection of a running ONNX export."""

from __future__ import annotations

import torch


def is_exporting() -> bool:
    """Return whether one of torch's exporters runs: torch.export, or the older one, which recurrent
    layers need. The exported model reads any number of histories of any length, without padding."""
    return torch.compiler.is_exporting() or torch.onnx.is_in_onnx_export()
