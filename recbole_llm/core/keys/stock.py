"""Keys that many of RecBole's models share, for models without a settings class."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Self

from pydantic import BeforeValidator, model_validator

from recbole_llm.core.checkpoints.starts import PRETRAINING, check_start_file
from recbole_llm.core.errors import unknown_name_error
from recbole_llm.core.settings import (
    Between,
    ConfigLike,
    Count,
    Dropout,
    NonNegative,
    Positive,
    Settings,
    Space,
    as_list,
    check_divides,
)

Numbers = NonNegative | list[NonNegative]
# Search spaces of models that cannot be trained with every choice of the usual one.
FIT: dict[str, Space] = {
    "ConvNCF": {"embedding_size": (64, 128)},  # cnn_strides shrink it 64-fold
    "DGCF": {"embedding_size": (16, 32, 64, 128)},  # n_factors, 4, divides it
    "FEARec": {"n_layers": (2, 3)},  # it divides by n_layers - 1
}
# Models whose last layer follows the last of mlp_hidden_size.
_NEED_LAYERS = {
    "AutoInt", "DCN", "DCNV2", "DIEN", "DIN", "DeepFM", "FNN", "NFM", "NNCF", "NeuMF", "PNN",
    "WideDeep",
}  # fmt: skip

# Words that these models read and do not check. By another word they would compute something else
# without a message, or run it as code (KD_DAGFM's teacher).
_CHOICES: dict[str, dict[str, tuple[str, ...]]] = {
    "CFKG": {"loss_function": ("inner_product", "transe")},
    "ConvNCF": {"train_method": ("no_pretrain", "after_pretrain")},
    "DCNV2": {"structure": ("stacked", "parallel")},
    "DIEN": {"gru_type": ("GRU", "AIGRU", "AGRU", "AUGRU")},
    "FEARec": {"fredom_type": ("None", "us", "un", "su", "us_x")},
    "GCMC": {"accum": ("stack", "sum")},
    "HRM": {key: ("max", "average") for key in ("pooling_type_layer_1", "pooling_type_layer_2")},
    "KD_DAGFM": {
        "teacher": ("CrossNet", "CIN"),
        "phase": ("teacher_training", "distillation", "finetuning"),
        "type": ("outer", "inner"),
    },
    "RaCT": {"train_stage": ("actor_pretrain", "critic_pretrain", "finetune")},
    "S3Rec": {"train_stage": ("pretrain", "finetune")},
    "SGL": {"type": ("ED", "ND", "RW")},
}


class StockSettings(Settings):
    """Keys of RecBole's models. A key that a model lacks is None. Ranges hold for all models."""

    search_space: ClassVar[Space] = {
        "embedding_size": (10, 16, 32, 64, 128),
        "hidden_size": (64, 128),
        "n_layers": (1, 2, 3),
        "mlp_hidden_size": ([64, 64], [128, 128, 128], [256, 256, 256]),
        "dropout_prob": (0.0, 0.2, 0.5),
        "reg_weight": Between(1e-6, 10.0),
    }

    embedding_size: Count | None = None
    """Size of the embeddings."""
    hidden_size: Count | None = None
    """Size of the hidden states."""
    inner_size: Count | None = None
    """Width of the feed-forward layers."""
    n_layers: Count | None = None
    """Number of layers."""
    num_layers: Count | None = None
    """Number of layers."""
    n_heads: Count | None = None
    """Number of attention heads."""
    mlp_hidden_size: Annotated[list[Count], BeforeValidator(as_list)] | None = None
    """Widths of the layers of a multi-layer perceptron."""
    dropout_prob: Dropout | None = None
    """Dropout probability."""
    hidden_dropout_prob: Dropout | None = None
    """Dropout on hidden states."""
    attn_dropout_prob: Dropout | None = None
    """Dropout on attention probabilities."""
    layer_norm_eps: NonNegative | None = None
    """Added to the denominator of layer norms."""
    initializer_range: Positive | None = None
    """Standard deviation of the initial weights."""
    reg_weight: Numbers | None = None
    """Weight of the regularization."""

    @classmethod
    def searched(cls, config: ConfigLike) -> Space:
        """The keys that the model has with a value of a searched type; the value is a candidate."""
        found: dict[str, Between | tuple[Any, ...]] = {}
        for key, where in {**cls.search_space, **FIT.get(config["model"], {})}.items():
            value: Any = config[key] if key in config else None
            kind: Any = list if key == "mlp_hidden_size" else (int, float)
            if not isinstance(value, kind):
                continue
            if not isinstance(where, Between):
                found[key] = where if value in where else (value, *where)
            elif value > 0:  # a logarithmic scale cannot begin at 0
                found[key] = Between(min(where.low, value), max(where.high, value))
        return found

    def check(self, config: ConfigLike) -> None:
        """Refuse a perceptron without layers for models that need one, an unknown choice, a stage
        whose start file is missing or does not fit, and `epochs` alone for a pretraining stage,
        which trains for `pretrain_epochs`."""
        if self.mlp_hidden_size == [] and config["model"] in _NEED_LAYERS:
            raise ValueError(f"mlp_hidden_size: {config['model']} needs at least one width, got []")
        for key, known in _CHOICES.get(config["model"], {}).items():
            if config[key] not in (None, *known):
                raise unknown_name_error(key, config[key], known)
        check_start_file(config)
        _check_pretraining(config)

    @model_validator(mode="after")
    def _heads_divide(self) -> Self:
        if self.n_heads and self.hidden_size:
            check_divides(self, "n_heads", "hidden_size")
        return self


def _check_pretraining(config: ConfigLike) -> None:
    if "train_stage" not in config or config["train_stage"] not in PRETRAINING:
        return
    for key in ("pretrain_epochs", "save_step"):
        value = config[key] if key in config else 1
        if not isinstance(value, int) or value < 1:
            raise ValueError(f"{key}: expected a whole number of at least 1, got {value!r}")
    given = getattr(config, "external_config_dict", {})
    if "epochs" in given and "pretrain_epochs" not in given and "pretrain_epochs" in config:
        raise ValueError(
            f"epochs: train_stage={config['train_stage']} trains for pretrain_epochs, which is "
            f"{config['pretrain_epochs']}, and epochs is for the last stage; add "
            f"--pretrain_epochs={given['epochs']}"
        )
