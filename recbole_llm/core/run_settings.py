"""Keys of this package that every run has."""

from __future__ import annotations

from typing import Literal

from recbole_llm.core.settings import Count, Flag, Settings


class RunSettings(Settings):
    """Keys of RecBole-LLM itself. RecBole's own keys keep RecBole's defaults."""

    strict_config: Flag = False
    """Whether an unknown config key is an error instead of a warning."""
    log_flops: Flag = True
    """Whether to count and log the FLOPs of a prediction, as RecBole does."""
    detect_anomaly: Flag = False
    """Whether autograd's anomaly detection is on while training (about 1.6 times slower)."""
    item_init: Literal["llm"] | None = None
    """'llm' starts a model's item embedding table from principal components of the item vectors."""
    fused_optimizer: Flag = True
    """Whether Adam and AdamW update all parameters in one fused step (about 10 times faster on a
    CPU; the same up to rounding)."""
    tune_malloc: Flag = True
    """Whether glibc keeps freed memory for the next training step; the environment's
    RECBOLE_LLM_MALLOC=0 turns it off too."""
    cpu_threads: Count | None = None
    """Threads of torch on the CPU; None: the physical cores this process may use, or
    OMP_NUM_THREADS."""
