"""Keys of SASRec and GRU4Rec; defaults are RecBole's."""

from __future__ import annotations

from typing import ClassVar

from recbole_llm.core.settings import Count, Dropout, Space
from recbole_llm.layers.backbones.settings import TransformerSettings
from recbole_llm.models.settings import LossSettings


class SASRecSettings(TransformerSettings, LossSettings):
    """RecBole's SASRec and its defaults; train_level, BCE and SSM are this package's."""

    search_space: ClassVar[Space] = {
        "hidden_size": (64, 128),
        "n_layers": (1, 2, 3),
        "hidden_dropout_prob": (0.1, 0.3, 0.5),
        "attn_dropout_prob": (0.1, 0.3, 0.5),
    }

    inner_size: Count = 256
    """Width of the feed-forward net."""


class GRU4RecSettings(LossSettings):
    """RecBole's GRU4Rec and its defaults; train_level, BCE and SSM are this package's."""

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
