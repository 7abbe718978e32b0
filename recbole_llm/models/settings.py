"""Keys that the sequential methods share; a method's settings extend them with its defaults."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field

from recbole_llm.core.errors import missing_file_error
from recbole_llm.core.settings import (
    Count,
    Dropout,
    FieldName,
    Flag,
    Natural,
    NonNegative,
    OneOrMore,
    Positive,
    Readers,
    Settings,
    Text,
)


def _existing_file(file: str | None) -> str | None:
    if file is not None and not Path(file).is_file():
        raise missing_file_error("checkpoint", file)
    return file


Checkpoint = Annotated[Text | None, AfterValidator(_existing_file)]
Widths = Annotated[list[Count], Field(min_length=1), OneOrMore]  # of hidden layers


class LossSettings(Settings):
    """Loss and training rows of a sequential model."""

    loss_type: Literal["CE", "BCE", "BPR", "SSM"] = "CE"
    """CE (over the catalogue), BCE, BPR or SSM (sampled softmax). train_neg_sample_args sets the
    negatives of the last three, by default one per target; SSM needs more."""
    train_level: Literal["prefix", "sequence"] = "sequence"
    """'sequence': a loss at every position of a window; 'prefix': RecBole's rows, one target
    each."""


class SequentialSettings(LossSettings):
    """Training and evaluation of a sequential method."""

    train_batch_size: Count = 1024
    """Interactions (supervised targets) in a training step, on average. One with k negatives counts
    as k, or as 1 + k in models of labels."""
    learning_rate: Positive = 0.001
    """Learning rate."""
    stopping_step: Natural = 5
    """Evaluations without improvement on validation that early stopping allows."""
    eval_batch_size: Count = 1024
    """Rows in an evaluation batch."""
    MAX_ITEM_LIST_LENGTH: Count = 50
    """Longest history, in items."""
    valid_metric: FieldName = "NDCG@10"
    """Metric that picks the best epoch, on validation."""


class PointwiseSettings(SequentialSettings):
    """Fields, MLP, training and evaluation of a method that predicts clicks."""

    embedding_size: Count = 10
    """Width of the embedding of each user and item field; RecBole's DIN: 10."""
    pooling_mode: Literal["mean", "max", "sum"] = "mean"
    """How the embeddings of a field with several values become one, as in RecBole's DIN."""
    mlp_hidden_size: Widths = [256, 256, 256]
    """Widths of the hidden layers of the head; RecBole's DIN: three of 256."""
    dropout_prob: Dropout = 0.0
    """Dropout before each layer of the head."""

    loss_type: Literal["BCE"] = "BCE"
    """Binary cross-entropy of the predicted probabilities against the labels."""
    train_level: Literal["prefix", "sequence"] = "prefix"
    """'sequence': a loss at every position of a window; 'prefix': RecBole's rows, one target
    each."""
    metrics: Annotated[list[str], Field(min_length=1), OneOrMore] = ["AUC", "LogLoss", "GAUC"]
    """Metrics of predictions against labels. GAUC is the AUC within each user, averaged over users
    by their rows (Zhu et al., KDD 2017)."""
    valid_metric: FieldName = "AUC"
    """Metric that picks the best epoch, on validation."""
    eval_args: dict[str, Any] = {
        "split": {"LS": "valid_and_test"},
        "order": "TO",
        "mode": "uni100",
    }
    """Split and candidates, by default those of RecBole's DIN. For labels in the data: mode
    labeled, train_neg_sample_args None, and, for GAUC, a split with several rows per user."""


class CTRSettings(PointwiseSettings):
    """`PointwiseSettings` with the head of this package, `CTRHead`."""

    activation: Literal["Dice", "ReLU", "LeakyReLU", "Sigmoid", "Tanh"] = "Dice"
    """Activation of the head's hidden layers. RecBole's Dice is x * sigmoid(x): its alpha stays 0,
    and mean and variance are those of the batch normalization before it."""
    batch_norm: Flag = True
    """Whether the head normalizes over the batch: each hidden layer, as in RecBole's DIN, and the
    inputs, since otherwise some inputs would drown out others."""


_READERS = {  # keys that only some context models or heads read: these
    "cross_layer_num": ("DCN",),
    "reg_weight": ("DCN",),
    **dict.fromkeys(
        ("attention_size", "n_layers", "num_heads", "dropout_probs", "has_residual"), ("AutoInt",)
    ),
    "pooling_mode": ("MLP", "DIN"),
    "dropout_prob": ("MLP", "DIN", "DeepFM", "DCN"),  # AutoInt has dropout_probs in its place
}


class TowerSettings(Settings):
    """Keys of RecBole's context models in a method. These models also read embedding_size,
    mlp_hidden_size and dropout_prob."""

    cross_layer_num: Count = 6
    """DCN: cross layers."""
    reg_weight: NonNegative = 2.0
    """DCN: weight of the cross layers' L2 norm."""
    attention_size: Count = 16
    """AutoInt: width of the attention."""
    n_layers: Count = 3
    """AutoInt: attention layers."""
    num_heads: Count = 2
    """AutoInt: attention heads."""
    dropout_probs: Annotated[list[Dropout], Field(min_length=3, max_length=3)] = [0.2, 0.2, 0.2]
    """AutoInt: dropout of the attention, of the MLP, and a third that RecBole does not use."""
    has_residual: Flag = True
    """AutoInt: whether the attention has a residual connection."""

    @classmethod
    def readers(cls) -> Readers:
        """See `Settings`; `backbone` or `head` names the context model."""
        choosers = [key for key in ("backbone", "head") if key in cls.model_fields]
        own = {key: (chooser, names) for chooser in choosers for key, names in _READERS.items()}
        return {**super().readers(), **own}


class DecoderSettings(Settings):
    """A pre-trained decoder, or blocks of one, in a model."""

    read_with = {"lora_rank": ("tuning", ("lora",))}

    tuning: Literal["full", "lora", "frozen"] = "full"
    """What is trained of the decoder: all blocks that are used (full), low-rank adapters (lora),
    or nothing (frozen)."""
    lora_rank: Count = 8
    """Rank of the adapters."""
    gradient_checkpointing: Flag = False
    """Whether the decoder's activations are recomputed for the gradients instead of kept, which
    takes less memory and more time."""
