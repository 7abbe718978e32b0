"""PAD's phases, and the checks of its configuration that need no data."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from recbole_llm.core.errors import check_choice

PHASES = ("pretrain", "align", "disentangle")


def check_settings(config: Any) -> None:
    """Raise ValueError, naming the key and the way out, for a value that cannot work."""
    from recbole_llm.layers.backbones import BACKBONES
    from recbole_llm.models.base import LOSS_TYPES
    from recbole_llm.models.pad.mmd import MEASURES

    check_choice("mmd_kernel", config["mmd_kernel"], MEASURES)
    check_choice("backbone", config["backbone"], BACKBONES)
    check_choice("loss_type", config["loss_type"], LOSS_TYPES)
    for key, least in (("n_bins", 1), ("mmd_max_items", 2), ("gamma", 0), ("hidden_size", 1)):
        value = config[key]
        if not isinstance(value, (int, float)) or value < least:
            raise ValueError(f"{key} must be a number of at least {least}, not {value!r}")
    if not config["item_std"] > 0:
        raise ValueError(f"item_std must be above 0, not {config['item_std']!r}")
    _check_start(config["pad_phase"], config["pad_pretrained"])


def _check_start(phase: str | None, checkpoint: str | None) -> None:
    if checkpoint is not None and not Path(checkpoint).is_file():
        raise ValueError(f"pad_pretrained: checkpoint '{checkpoint}' does not exist")
    if phase is None:
        return
    check_choice("pad_phase", phase, PHASES)
    if checkpoint is None and phase != PHASES[0]:
        before = PHASES[PHASES.index(phase) - 1]
        raise ValueError(
            f"pad_phase '{phase}' needs pad_pretrained, the checkpoint of the phase before: "
            f"saved/PAD-<time>-{before}.pth"
        )
