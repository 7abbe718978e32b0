"""Keys of this package that every run has."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from recbole_llm.core.marks import (
    AskOnLoad,
    Local,
    NoEffectOnResults,
    PartOfProtocol,
    StoredElsewhere,
)
from recbole_llm.core.settings import (
    Between,
    ConfigLike,
    Count,
    Flag,
    NonNegative,
    OneOrMore,
    Positive,
    Settings,
    Share,
    Space,
    Text,
)


class RunSettings(Settings):
    """Keys of RecBole-LLM itself. RecBole's own keys keep RecBole's defaults."""

    read_with = dict.fromkeys(
        ("item_init_std", "item_init_score_std", "item_init_whitening"), ("item_init", ("llm",))
    )
    search_space: ClassVar[Space] = {
        "item_init_std": Between(0.02, 1.0),
        "item_init_whitening": (0.0, 0.5, 1.0),
    }

    strict_config: NoEffectOnResults[Flag] = False
    """Whether an unknown config key is an error instead of a warning."""
    plugins: Local[AskOnLoad[Annotated[list[Text], OneOrMore] | None]] = None
    """Plugins that are not installed packages: Python files (mine.py), or names of modules."""
    protocol: StoredElsewhere[PartOfProtocol[Literal["leave-one-out", "random"] | None]] = None
    """How interactions are split, in place of eval_args: 'leave-one-out' tests on each user's last
    item and validates on the one before; 'random' splits each user's interactions 80 : 10 : 10,
    which sequential models cannot use. None: the default of the model's type."""
    verbose: Local[NoEffectOnResults[Flag]] = False
    """Whether the screen shows all that RecBole logs, as the log file always does; otherwise it
    shows a run's data, model, protocol, progress and result."""
    output: Local[NoEffectOnResults[Text | None]] = None
    """JSON file of the result: metrics, best epoch, settings that differ from the defaults, data,
    versions, times, memory."""
    user_metrics: Local[NoEffectOnResults[Text | None]] = None
    """File (.npz) of each user's test metrics, whose means are the run's, and of the top items of a
    few users, for recbole-llm compare."""
    detect_anomaly: NoEffectOnResults[Flag] = False
    """Whether autograd's anomaly detection is on while training (about 1.6 times slower)."""
    resume: Local[NoEffectOnResults[Text | None]] = None
    """File from which a stopped run continues (saved/<model>-…-last.pth), with the same settings
    as before; it ends as if it had not been stopped."""
    item_init: StoredElsewhere[Literal["llm"] | None] = None
    """'llm' starts a model's item embedding table from principal components of the item vectors."""
    item_init_std: Positive | None = None
    """Standard deviation of that item table. None: .1 for sequential models, whose own random
    start (SASRec: .02) is too small to keep what the texts say; other models keep the
    standard deviation of their own start. With .3, SASRec ranks slightly better still
    (results/quality.md)."""
    item_init_score_std: NonNegative = 1.0
    """Standard deviation of the scores before training with item_init, set by the weight of the
    model's last layer norm, if it has one (SASRec). 0: that weight stays 1."""
    item_init_whitening: Share = 0
    """How far the item vectors are whitened for item_init: 0 not at all, 1 fully."""
    fused_optimizer: Flag = True
    """Whether Adam and AdamW update all parameters in one fused step (the same up to rounding)."""
    tune_malloc: Local[NoEffectOnResults[Flag]] = True
    """Whether glibc keeps freed memory for the next training step; the environment variable
    RECBOLE_LLM_MALLOC=0 turns this off too."""
    cpu_threads: Local[NoEffectOnResults[Count | None]] = None
    """Threads of torch on the CPU. None: OMP_NUM_THREADS if set, else the physical cores that this
    process may use."""

    def check(self, config: ConfigLike) -> None:
        """Refuse a protocol for files that are already split."""
        if self.protocol is not None and config["benchmark_filename"]:
            raise ValueError(
                "protocol: benchmark_filename names files that are already split; leave one out"
            )
