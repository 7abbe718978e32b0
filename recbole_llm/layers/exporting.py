"""Detect that a model is being written as ONNX."""

from __future__ import annotations

import torch


def is_exporting() -> bool:
    """Within either of torch's exporters: torch.export's, or the older one, which recurrent layers
    need. What they write serves histories without padding, of any number and length."""
    return torch.compiler.is_exporting() or torch.onnx.is_in_onnx_export()
