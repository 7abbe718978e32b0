"""PAD's keys."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from recbole_llm.core.marks import Local
from recbole_llm.core.settings import (
    Between,
    Count,
    Dropout,
    FieldName,
    Flag,
    Natural,
    NonNegative,
    Positive,
    Space,
)
from recbole_llm.layers.backbones.settings import TRANSFORMERS, Activation, BackboneSettings
from recbole_llm.models.settings import Checkpoint, SequentialSettings

PHASES = ("pretrain", "align", "disentangle")


class PADSettings(BackboneSettings, SequentialSettings):
    """PAD: Pre-train, Align, Disentangle (SIGIR 2025, arXiv 2412.04107). "authors" is their code,
    "paper" the paper; the rest was tuned on validation (models/pad/README.md)."""

    search_space: ClassVar[Space] = {
        "gamma": Between(0.02, 2.0),
        "item_std": Between(0.02, 1.0),
        "gamma_2": (-4.0, -1.0, 1.0),
        "hidden_dropout_prob": (0.1, 0.3, 0.5),
    }

    read_with = dict.fromkeys(("attention_bias", "score_std"), ("backbone", TRANSFORMERS))

    epochs: Count = 200
    """Maximum number of epochs of a phase; early stopping on validation usually ends it before."""
    learning_rate: Positive = 0.001
    """Learning rate of each phase."""
    stopping_step: Natural = 3
    """Evaluations without improvement on validation that early stopping allows in a phase."""
    pretrain_epochs: Natural | None = None
    """Epochs of phase 1 (ID expert alone); 0 leaves the phase out, None: epochs."""
    pretrain_learning_rate: Positive | None = None
    """Learning rate of phase 1; None: learning_rate."""
    pretrain_stopping_step: Natural | None = None
    """Stopping step of phase 1; None: stopping_step."""
    align_epochs: Natural | None = None
    """Epochs of phase 2 (aligned expert); 0 leaves the phase out, None: epochs."""
    align_learning_rate: Positive | None = None
    """Learning rate of phase 2; None: learning_rate."""
    align_stopping_step: Natural | None = None
    """Stopping step of phase 2; None: stopping_step."""
    disentangle_epochs: Natural | None = None
    """Epochs of phase 3 (all experts and gates); 0 leaves the phase out, None: epochs."""
    disentangle_learning_rate: Positive | None = None
    """Learning rate of phase 3; None: learning_rate."""
    disentangle_stopping_step: Natural | None = None
    """Stopping step of phase 3; None: stopping_step."""
    pad_pretrained: Local[Checkpoint] = None
    """Checkpoint of a phase (saved/PAD-…-<phase>.pth) from which the next phase starts; the phases
    up to it are skipped. To continue a stopped run, use resume instead."""

    gamma: NonNegative = 0.2
    """Weight of MK-MMD in phase 2; authors: 0.2."""
    mmd_kernel: Literal["gaussian", "laplace", "linear", "cosine", "infonce"] = "gaussian"
    """gaussian (paper), laplace, linear, cosine; or infonce, the paired contrast."""
    mmd_max_items: Annotated[int, Field(ge=2)] = 512
    """MK-MMD is computed over at most this many items of a batch, sampled if there are more."""

    hidden_size: Count = 128
    """Size of every expert's vectors and states; authors: 128."""
    n_layers: Count = 2
    """Layers of the backbone; authors: 5 transformer blocks."""
    inner_size: Count | None = 128
    """Width of the feed-forward net; authors: 4 * hidden_size."""
    hidden_dropout_prob: Dropout = 0.5
    """Dropout on states; authors: 0.1."""
    attn_dropout_prob: Dropout = 0.5
    """Dropout on attention probabilities; authors: 0.1."""
    attention_bias: Flag = True
    """Whether SASRec's attention projections have biases; authors: False."""
    hidden_act: Activation = "gelu"
    """Activation of the feed-forward net; authors: relu."""
    layer_norm_eps: NonNegative = 1e-12
    """Added to the denominator of layer norms; authors: 1e-6."""
    pca_init: Flag = True
    """Whether the ID embedding starts from principal components of the item vectors; False: at
    random (authors)."""
    item_std: Positive = 0.3
    """Standard deviation of the initial ID embedding."""
    score_std: NonNegative = 0
    """Root mean square of the ID and the LLM expert's scores before training, set by the weight of
    the last layer norm (SASRec and BERT4Rec). 1 halves the epochs of phase 1; 0: the weight starts
    at 1 (authors)."""
    mo_dnn_layers: Natural = 1
    """Number of [Linear, GELU] layers of turn after the first; authors: 4 on Prime Pantry."""
    dnn_layers: Natural = 0
    """[Linear, GELU] layers on the item vectors of the aligned and LLM experts; authors: 0."""
    item_dropout_prob: Dropout = 0.0
    """Dropout before each linear layer of the item nets; authors: 0.1."""

    n_bins: Count = 10
    """Frequency bins of items, with near-equal training interactions; authors: 10."""
    gamma_2: float = 1.0
    """Initial gate logit of the aligned expert; -4 (authors) starts it at a share of 1 %."""
    valid_metric: FieldName = "MRR@10"
    """Metric that picks the best epoch, on validation."""
