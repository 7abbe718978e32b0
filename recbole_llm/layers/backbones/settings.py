"""Keys of a sequence backbone; a method's settings extend them with its defaults."""

from __future__ import annotations

from typing import Literal, Self, get_args

from pydantic import model_validator

from recbole_llm.core.settings import Count, Dropout, NonNegative, Positive, Settings, check_divides

Backbone = Literal["SASRec", "GRU4Rec", "BERT4Rec", "Caser"]
Activation = Literal["gelu", "relu", "swish", "tanh", "sigmoid"]
BACKBONES = get_args(Backbone)
TRANSFORMERS = ("SASRec", "BERT4Rec")
_READERS = {  # keys that only some backbones read: these backbones
    "n_layers": ("SASRec", "BERT4Rec", "GRU4Rec"),
    **dict.fromkeys(
        ("n_heads", "inner_size", "attn_dropout_prob", "hidden_act", "layer_norm_eps"), TRANSFORMERS
    ),
    "initializer_range": TRANSFORMERS,
    "gru_hidden_size": ("GRU4Rec",),
    **dict.fromkeys(("caser_window", "nv", "nh"), ("Caser",)),
}


class TransformerSettings(Settings):
    """A transformer over histories."""

    hidden_size: Count = 64
    """H, size of vectors and states."""
    n_layers: Count = 2
    """Layers of the backbone."""
    n_heads: Count = 2
    """Attention heads."""
    inner_size: Count | None = None
    """Width of the feed-forward net; None: 4 * hidden_size."""
    hidden_dropout_prob: Dropout = 0.5
    """Dropout on states."""
    attn_dropout_prob: Dropout = 0.5
    """Dropout on attention probabilities."""
    hidden_act: Activation = "gelu"
    """Activation of the feed-forward net."""
    layer_norm_eps: NonNegative = 1e-12
    """Added to the denominator of layer norms."""
    initializer_range: Positive = 0.02
    """Standard deviation of the backbone's initial weights."""

    @model_validator(mode="after")
    def _heads_divide(self) -> Self:
        if getattr(self, "backbone", "SASRec") in TRANSFORMERS:
            check_divides(self, "n_heads", "hidden_size")
        return self


class BackboneSettings(TransformerSettings):
    """The sequence backbone; a key that is None keeps the backbone's own default."""

    read_with = {key: ("backbone", names) for key, names in _READERS.items()}

    backbone: Backbone = "SASRec"
    """Sequence backbone: SASRec, GRU4Rec, BERT4Rec or Caser. All are causal: BERT4Rec is SASRec
    with BERT4Rec's output layer, and is not trained on masked items."""
    gru_hidden_size: Count | None = None
    """Width of GRU4Rec's layers; None: twice hidden_size."""
    caser_window: Count | None = None
    """Number of last items that Caser's filters see; None: 10, or MAX_ITEM_LIST_LENGTH if lower."""
    nv: Count | None = None
    """Caser's vertical filters; None: 4."""
    nh: Count | None = None
    """Caser's horizontal filters of each height; None: 8."""
