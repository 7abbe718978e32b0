"""LLM-ESR's keys."""

from __future__ import annotations

from typing import ClassVar, Literal, Self

from pydantic import model_validator

from recbole_llm.core.settings import (
    Between,
    ConfigLike,
    Count,
    Dropout,
    Flag,
    NonNegative,
    Positive,
    Share,
    Space,
    check_divides,
)
from recbole_llm.layers.backbones.settings import Activation, Backbone, BackboneSettings
from recbole_llm.models.settings import SequentialSettings


class LLMESRSettings(BackboneSettings, SequentialSettings):
    """LLM-ESR (Liu et al., NeurIPS 2024, arXiv 2405.20646). "authors" is their code. Other
    defaults are RecBole's or were tuned on validation (models/llmesr/README.md)."""

    search_space: ClassVar[Space] = {
        "text_whitening": (0.0, 0.5, 1.0),
        "item_std": Between(0.02, 1.0),
        "alpha": Between(0.01, 1.0),
        "hidden_dropout_prob": (0.1, 0.3, 0.5),
    }

    read_with = dict.fromkeys(
        ("cross_attention", "cross_heads", "share_backbone"), ("views", ("both",))
    )

    views: Literal["both", "semantic", "collaborative"] = "both"
    """both (paper), or an ablation: semantic (w/o Co-view) or collaborative (w/o Se-view)."""
    text_whitening: Share = 0.5
    """Degree of whitening of the text vectors, for both views. 0: none (authors); 1: full. Chosen
    on validation."""
    pca_init: Flag = True
    """Whether the collaborative item embeddings start from principal components of the item
    vectors; False: at random (w/ Random Init)."""
    item_std: Positive = 0.1
    """Standard deviation of the initial collaborative item embeddings; authors: that of the
    components, about 0.1 for vectors of length 1."""
    aligned_init: Flag = True
    """Whether the adapter starts as the projection on the same components and the cross-attention
    as the identity, so that both views start equal; authors: at random."""
    adapter_layers: Literal[1, 2] = 2
    """Linear layers of the semantic adapter, D -> D // 2 -> hidden_size; 1: a single one (w/
    1-layer Adapter)."""
    cross_attention: Flag = True
    """Whether the views attend to each other; False is the paper's w/o CA."""
    cross_heads: Count = 2
    """Heads of the cross-attention; authors: 2."""
    share_backbone: Flag = True
    """Whether both views go through one backbone; False is the paper's w/o Share."""
    stream_dropout_prob: Dropout = 0.0
    """Dropout on both streams before the cross-attention; authors: 0.5."""

    alpha: NonNegative = 0.1
    """Weight of the self-distillation loss; 0: none (w/o SD); authors: 0.1."""
    n_similar_users: Count = 10
    """Similar users whose states teach a user; authors: 10."""
    teacher: Literal["exact", "bank"] = "exact"
    """States of similar users: exact (encoded anew at each step, authors) or bank (kept from the
    last time that each user was trained on; nothing is encoded)."""

    backbone: Backbone = "SASRec"
    """SASRec (with the authors' original block), GRU4Rec, BERT4Rec (its output layer, without
    masked items), or Caser; all causal."""
    hidden_size: Count = 192
    """H, size of each view; states and item vectors have 2 H; authors: 64."""
    n_layers: Count = 2
    """Layers of the backbone; authors: 2."""
    n_heads: Count = 2
    """Attention heads of the backbone; authors: 1."""
    inner_size: Count | None = 192
    """Width of the feed-forward net; authors: hidden_size."""
    hidden_dropout_prob: Dropout = 0.5
    """Dropout on states; authors: 0.5."""
    attn_dropout_prob: Dropout = 0.5
    """Dropout on attention probabilities; authors: 0.5."""
    hidden_act: Activation = "relu"
    """Activation of the feed-forward net; authors: relu."""
    layer_norm_eps: NonNegative = 1e-8
    """Added to the denominator of layer norms; authors: 1e-8."""
    initializer_range: Positive = 0.02
    """Standard deviation of the backbone's and the positions' initial weights."""
    learning_rate: Positive = 0.001
    """Learning rate; authors: 0.001."""
    MAX_ITEM_LIST_LENGTH: Count = 50
    """Longest history, in items; authors: 200."""

    @model_validator(mode="after")
    def _cross_heads_divide(self) -> Self:
        check_divides(self, "cross_heads", "hidden_size")
        return self

    def check(self, config: ConfigLike) -> None:
        """Raise ValueError early if the user vectors, which training makes, cannot be made."""
        if self.alpha == 0 or config["encoder"] != "precomputed":
            return
        if config["user_embedding_path"] is None:
            raise ValueError(
                "user_embedding_path: LLMESR finds similar users by their vectors, which encoder: "
                "precomputed cannot make; give them, or set alpha: 0 (no distillation)"
            )
