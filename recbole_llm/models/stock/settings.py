"""Keys of SASRec and GRU4Rec; defaults are RecBole's."""

from __future__ import annotations

from typing import ClassVar, Literal, Self

from pydantic import model_validator

from recbole_llm.core.settings import (
    Count,
    Dropout,
    NonNegative,
    Positive,
    Settings,
    Space,
    check_divides,
)
from recbole_llm.layers.backbones.settings import Activation
from recbole_llm.models.settings import Loss


class StockSettings(Settings):
    """What is ours of both models' keys."""

    train_level: Literal["prefix", "sequence"] = "sequence"
    """'sequence': a loss at every position of a window; 'prefix': RecBole's rows, one target
    each."""
    loss_type: Loss = "CE"
    """CE (over the catalogue), BPR, and here BCE or SSM (sampled softmax)."""


class SASRecSettings(StockSettings):
    """RecBole's SASRec with its own defaults; train_level and two of the losses are ours."""

    search_space: ClassVar[Space] = {
        "hidden_size": (64, 128),
        "n_layers": (1, 2, 3),
        "hidden_dropout_prob": (0.1, 0.3, 0.5),
        "attn_dropout_prob": (0.1, 0.3, 0.5),
    }

    hidden_size: Count = 64
    """Size of vectors and states."""
    inner_size: Count = 256
    """Width of the feed-forward net."""
    n_layers: Count = 2
    """Transformer blocks."""
    n_heads: Count = 2
    """Attention heads."""
    hidden_dropout_prob: Dropout = 0.5
    """Dropout on states."""
    attn_dropout_prob: Dropout = 0.5
    """Dropout on attention probabilities."""
    hidden_act: Activation = "gelu"
    """Activation of the feed-forward net."""
    layer_norm_eps: NonNegative = 1e-12
    """Added to the denominator of layer norms."""
    initializer_range: Positive = 0.02
    """Standard deviation of the initial weights."""

    @model_validator(mode="after")
    def _heads_divide(self) -> Self:
        check_divides("n_heads", self.n_heads, "hidden_size", self.hidden_size)
        return self


class GRU4RecSettings(StockSettings):
    """RecBole's GRU4Rec with its own defaults; train_level and two of the losses are ours."""

    search_space: ClassVar[Space] = {
        "embedding_size": (64, 128),
        "hidden_size": (128, 256),
        "num_layers": (1, 2),
        "dropout_prob": (0.1, 0.3, 0.5),
    }

    embedding_size: Count = 64
    """Size of item vectors."""
    hidden_size: Count = 128
    """Size of states."""
    num_layers: Count = 1
    """GRU layers."""
    dropout_prob: Dropout = 0.3
    """Dropout on the inputs."""
