"""Molar's keys."""

from __future__ import annotations

from typing import ClassVar, Literal, Self

from pydantic import model_validator

from recbole_llm.core.marks import Local
from recbole_llm.core.settings import (
    Between,
    Count,
    Dropout,
    FieldName,
    ModelName,
    Natural,
    NonNegative,
    Positive,
    Share,
    Space,
    check_divides,
)
from recbole_llm.layers.backbones.settings import BackboneSettings
from recbole_llm.models.settings import Checkpoint, DecoderSettings, SequentialSettings
from recbole_llm.offline.settings import TuneSettings

PHASES = ("id", "content")


class MIRMSettings(TuneSettings):
    """The stage mirm, which tunes the encoder's model on the data set (prepare --stage=mirm)."""

    mirm_description_field: FieldName | None = None
    """Field of the .item file that describes an item; None: the text field with the longest
    texts."""
    mirm_history: Count = 10
    """Last items of a training history from which the next one is predicted."""


class MolarSettings(MIRMSettings, DecoderSettings, BackboneSettings, SequentialSettings):
    """Molar (Luo et al. 2024, arXiv 2412.18176). "paper" is theirs; the rest was tuned on
    validation (models/molar/README.md). The backbone's keys are those of the ID model."""

    search_space: ClassVar[Space] = {
        "alignment_weight": Between(0.01, 1.0),
        "temperature": Between(0.02, 0.5),
        "vector_whitening": (0.0, 0.5, 1.0),
        "item_std": Between(0.01, 0.5),
        "item_hidden_size": (0, 384, 768),
        "item_codes": (0, 24, 48),
    }

    read_with = {
        **dict.fromkeys(
            ("id_model", "alignment_weight", "alignment_positions", "temperature"),
            ("fusion", ("post_alignment",)),
        ),
        "same_item": ("loss_type", ("NCE",)),
    }

    fusion: Literal["post_alignment", "early_fusion", "no_alignment"] = "post_alignment"
    """How IDs take part: post_alignment (paper), or an ablation: early_fusion adds an ID embedding
    to every item vector, no_alignment leaves IDs out."""
    id_model: Literal["frozen", "joint"] = "frozen"
    """ID model of the post-alignment: frozen after a phase of its own, or joint, which learns from
    its own recommendation loss together with the content model."""
    alignment_weight: Positive = 0.1
    """Weight of the alignment loss."""
    alignment_positions: Literal["all", "last"] = "all"
    """Where the user states are aligned: at all positions of the recommendation loss, or at each
    history's last one. Other positions of the same user are not negatives."""
    temperature: Positive = 0.1
    """Temperature of the alignment loss."""
    loss_type: Literal["CE", "BCE", "NCE", "BPR", "SSM"] = "CE"  # type: ignore[assignment]
    """Recommendation loss: CE (over the catalogue), BCE (paper), NCE (authors' code: the batch's
    negatives pooled, by cosine), BPR or SSM; all but CE use negatives of train_neg_sample_args."""
    same_item: Share = 0.99
    """NCE: a negative with a higher cosine to the target is dropped as the target itself; authors:
    0.99."""

    decoder_model: ModelName = None
    """Pre-trained decoder whose blocks read the item vectors: a folder, a .gguf file,
    SmolLM2-135M-Instruct, or a hub name; None: a small one with random weights."""
    decoder_blocks: Count | None = None
    """Top blocks of decoder_model that are used; None: all."""
    decoder_size: Count = 192
    """Width of the small decoder, and of its states and item vectors."""
    decoder_layers: Count = 2
    """Blocks of the small decoder."""
    decoder_heads: Count = 2
    """Attention heads of the small decoder."""
    decoder_inner: Count = 192
    """Width of the small decoder's feed-forward net."""
    decoder_dropout_prob: Dropout = 0.5
    """Dropout in the small decoder, on attention probabilities and on what attention and
    feed-forward net add, and in the net of the content vectors."""
    item_dropout_prob: Dropout = 0.5
    """Dropout on the item vectors of a history, before the decoder."""

    vector_whitening: Share = 0.5
    """Degree of whitening of the content vectors. 0: none; 1: full."""
    item_std: Positive = 0.05
    """Standard deviation of the projected content vectors at the start."""
    item_hidden_size: Natural = 384
    """Hidden width of the net that is added to the projection and starts at zero; 0: no net."""
    item_codes: Natural = 0
    """Codes of a content vector (product quantization), each with a learned vector that is added to
    the item's vector; 0: none."""
    item_code_dropout_prob: Dropout = 0.2
    """Share of an item's codes that a training step leaves out."""
    score_std: NonNegative = 0
    """Root mean square of the content model's scores before training, set by the weight of the
    decoder's last norm; 0: the weight stays as it is."""

    epochs: Count = 40
    """Maximum number of epochs of a phase; early stopping on validation usually ends it before."""
    learning_rate: Positive = 0.001
    """Learning rate of each phase."""
    stopping_step: Natural = 3
    """Evaluations without improvement on validation that early stopping allows in a phase."""
    id_epochs: Count | None = None
    """Epochs of the frozen ID model's phase; None: epochs."""
    id_learning_rate: Positive | None = None
    """Learning rate of the ID model's phase; None: learning_rate."""
    id_stopping_step: Natural | None = None
    """Stopping step of the ID model's phase; None: stopping_step."""
    id_pretrained: Local[Checkpoint] = None
    """Checkpoint of the ID model's phase (saved/Molar-…-id.pth) to use in its place."""
    content_epochs: Count | None = None
    """Epochs of the content model's phase; None: epochs."""
    content_learning_rate: Positive | None = None
    """Learning rate of the content model's phase; None: learning_rate."""
    content_stopping_step: Natural | None = None
    """Stopping step of the content model's phase; None: stopping_step."""

    @model_validator(mode="after")
    def _decoder_heads_divide(self) -> Self:
        check_divides(self, "decoder_heads", "decoder_size")
        return self

    @model_validator(mode="after")
    def _keys_of_a_pretrained_decoder(self) -> Self:
        if self.decoder_model is None and self.tuning != "full":
            raise ValueError(
                f"tuning: {self.tuning} is for a pre-trained decoder; set decoder_model"
            )
        if self.decoder_model is None and self.decoder_blocks is not None:
            raise ValueError(
                "decoder_blocks: is for a pre-trained decoder; set decoder_model, or "
                "decoder_layers for the small one"
            )
        return self

    @model_validator(mode="after")
    def _id_phase_to_replace(self) -> Self:
        if self.id_pretrained is not None and not self.has_id_phase:
            raise ValueError("id_pretrained: needs fusion: post_alignment and id_model: frozen")
        return self

    @property
    def has_id_phase(self) -> bool:
        """Whether an ID model is trained first."""
        return self.fusion == "post_alignment" and self.id_model == "frozen"
