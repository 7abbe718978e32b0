"""Keys that many of RecBole's models share, for those that have no settings class."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Self

from pydantic import BeforeValidator, model_validator

from recbole_llm.core.checkpoints.starts import PRETRAINING, check_start_file
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
    with_default,
)

Numbers = NonNegative | list[NonNegative]
# Of models that cannot be trained with every choice of the search space.
FIT: dict[str, Space] = {
    "ConvNCF": {"embedding_size": (64, 128)},  # cnn_strides shrink it 64-fold
    "DGCF": {"embedding_size": (16, 32, 64, 128)},  # n_factors, 4, divides it
    "FEARec": {"n_layers": (2, 3)},  # it divides by n_layers - 1
}


class StockSettings(Settings):
    """RecBole's models; a key that a model lacks is None. Ranges hold for all of them."""

    search_space: ClassVar[Space] = {
        "embedding_size": (10, 16, 32, 64, 128),
        "hidden_size": (64, 128),
        "n_layers": (1, 2, 3),
        "mlp_hidden_size": ([64, 64], [128, 128, 128], [256, 256, 256]),
        "dropout_prob": (0.0, 0.2, 0.5),
        "reg_weight": Between(1e-6, 10.0),
    }

    embedding_size: Count | None = None
    """Size of vectors."""
    hidden_size: Count | None = None
    """Size of states."""
    inner_size: Count | None = None
    """Width of a feed-forward net."""
    n_layers: Count | None = None
    """Layers."""
    num_layers: Count | None = None
    """Layers."""
    n_heads: Count | None = None
    """Attention heads."""
    mlp_hidden_size: Annotated[list[Count], BeforeValidator(as_list)] | None = None
    """Widths of a multi-layer perceptron."""
    dropout_prob: Dropout | None = None
    """Dropout."""
    hidden_dropout_prob: Dropout | None = None
    """Dropout on states."""
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
        """The keys that the model has with a value of the searched kind, which is a candidate."""
        found = {}
        for key, where in {**cls.search_space, **FIT.get(config["model"], {})}.items():
            value: Any = config[key] if key in config else None
            kind: Any = list if key == "mlp_hidden_size" else (int, float)
            # No scale begins at 0.
            if isinstance(value, kind) and not (isinstance(where, Between) and value <= 0):
                found[key] = with_default(where, value)
        return found

    def check(self, config: ConfigLike) -> None:
        """Refuse a stage that starts from the weights of a file which is not there or not fit for
        it, and `epochs` for a pretraining stage, which trains `pretrain_epochs`."""
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
            f"epochs: train_stage={config['train_stage']} trains pretrain_epochs, which are "
            f"{config['pretrain_epochs']}, and epochs are of the last stage; add "
            f"--pretrain_epochs={given['epochs']}"
        )
