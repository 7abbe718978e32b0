"""BAHE's keys."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from pydantic import Field

from recbole_llm.core.settings import (
    ConfigLike,
    Count,
    FieldName,
    Flag,
    ModelName,
    Natural,
    Positive,
    Prompt,
    Share,
    Space,
)
from recbole_llm.features.encoders.settings import CausalLMSettings
from recbole_llm.features.encoders.smollm import NAMES
from recbole_llm.features.settings import EncoderSettings, ItemSettings
from recbole_llm.models.settings import CTRSettings, DecoderSettings, TowerSettings

if TYPE_CHECKING:
    from recbole_llm.features.contents.templates import Template


class BAHESettings(DecoderSettings, TowerSettings, CTRSettings):
    """BAHE (Geng et al., SIGIR 2024, arXiv 2403.19347), which has no public code."""

    search_space: ClassVar[Space] = {
        "text_size": (32, 64, 128),
        "embedding_size": (10, 16, 32),
        "dropout_prob": (0.0, 0.2),
        "vector_whitening": (0.0, 0.75),
    }

    read_with = {
        # The layers of RecBole's models are fixed.
        **dict.fromkeys(("activation", "batch_norm"), ("head", ("MLP",))),
        "coupled_max_tokens": ("coupled", (True,)),
        "vector_whitening": ("coupled", (False,)),
    }

    encoder: FieldName = "causal_lm"
    """Lower half: causal_lm, the decoder's blocks up to encoder_layer, or any other kind, whose
    vectors are mapped to the decoder's width."""
    encoder_layer: int = 8
    """Blocks of the lower half, which are frozen."""
    encoder_pooling: Literal["mean", "last_token"] = "last_token"
    """How a behavior's tokens become its vector."""

    decoder_model: ModelName = None
    """Decoder of the upper half: a local path or a hub name. None: encoder_model of causal_lm,
    else SmolLM2-135M-Instruct."""
    high_layers: Count | None = 1
    """Number of blocks of the upper half: the first ones above encoder_layer or, with another
    encoder, the decoder's last ones. None: all (paper)."""
    vector_whitening: Share = 0.75
    """Degree of whitening of the lower half's vectors (coupled: they are not read). 0: none; 1:
    full."""
    user_pooling: Literal["last", "mean"] = "last"
    """The user's vector is the upper half's state after the last behavior, or the mean of the
    states so far."""

    head: Literal["MLP", "DIN", "DeepFM", "DCN", "AutoInt"] = "MLP"
    """What reads the vectors and fields of user and item: the MLP of RecBole's DIN; or all of DIN,
    which attends to the history's items, or one of RecBole's context models over the fields, whose
    MLPs also read the vectors."""
    text_size: Count = 64
    """Width to which the upper half's vectors of users and items are mapped for the head."""

    behavior_prompt: Prompt = None
    """Template of a behavior's text over `item` (the item's text) and the fields of the
    interaction; missing fields are empty. None: the item's text."""
    behavior_field: FieldName | None = None
    """Field of the interactions, such as an action, that splits a history into behavior fields,
    read in parallel and concatenated; interactions without it are left out. None: no split."""

    coupled: Flag = False
    """The baseline that BAHE replaces: both halves, trained, over the text of the whole history
    and the target; needs train_level: prefix."""
    coupled_max_tokens: Annotated[int, Field(ge=2)] = 1024
    """coupled: maximum tokens of a text; the oldest behaviors are left out until it fits."""

    train_level: Literal["prefix", "sequence"] = "sequence"
    """'sequence': one pass over a window gives the user before each of its targets; 'prefix':
    RecBole's rows, one target each."""
    window_stride: Count | Literal["full"] | None = "full"
    """Number of targets that a full window supervises. full: all, so that no item is read twice.
    None: MAX_ITEM_LIST_LENGTH // 4 + 1, for more context per target in twice the time."""
    learning_rate: Positive = 0.0005
    """Learning rate."""
    stopping_step: Natural = 2
    """Evaluations without improvement on validation that early stopping allows."""

    def check(self, config: ConfigLike) -> None:
        """Raise ValueError for keys that do not go together, and for an invalid template."""
        if (feature := ItemSettings.of(config).item_feature) != "item_text":
            raise ValueError(f"item_feature: BAHE reads texts, not {feature}; leave it out")
        named = (self.behavior_prompt or self.behavior_field) is not None
        if self.coupled:
            self._check_coupled(config, named)
        if self.head == "DIN" and named:
            raise ValueError("head: DIN reads items; leave out behavior_prompt and behavior_field")
        if named and config["benchmark_filename"]:
            raise ValueError(
                "benchmark_filename: ready-made splits have lists of items, but no columns for "
                "behavior_prompt and behavior_field; leave these out"
            )
        self.behavior_template()

    def _check_coupled(self, config: ConfigLike, named: bool) -> None:
        if self.train_level == "sequence":
            raise ValueError("coupled: reads the target with the history; set train_level: prefix")
        if EncoderSettings.of(config).encoder != "causal_lm":
            raise ValueError("coupled: is one LLM from end to end; set encoder: causal_lm")
        if named:
            raise ValueError(
                "coupled: reads the items' texts; leave out behavior_prompt and behavior_field"
            )
        if self.user_pooling == "mean":
            raise ValueError("user_pooling: a coupled LLM reads its last state; leave it out")

    def behavior_template(self) -> Template | None:
        """The template of the behaviors' texts, if there is one."""
        from recbole_llm.features.contents.templates import find_template

        if self.behavior_prompt is None:
            return None
        return find_template(self.behavior_prompt, "behavior_prompt", "behavior", "")

    def behavior_fields(self) -> list[str]:
        """Return the fields that template and `behavior_field` name, without the item's text."""
        template = self.behavior_template()
        named = set() if template is None else template.variables() - {"item"}
        return sorted(named if self.behavior_field is None else {*named, self.behavior_field})

    def decoder_name(self, config: ConfigLike) -> str:
        """The decoder of the upper half."""
        settings = EncoderSettings.of(config)
        of_encoder = settings.encoder_model if settings.encoder == "causal_lm" else None
        return self.decoder_model or of_encoder or NAMES[0]

    def first_block(self, config: ConfigLike, depth: int) -> int:
        """The first block of the upper half of a decoder of `depth` blocks.

        Raises:
            ValueError: encoder_layer or high_layers does not fit the depth.
        """
        if EncoderSettings.of(config).encoder != "causal_lm":
            return depth - min(self.high_layers or depth, depth)
        layer = CausalLMSettings.of(config).encoder_layer
        first = layer + depth + 1 if layer < 0 else layer
        if not 0 <= first < depth:
            raise ValueError(
                f"encoder_layer: {layer} leaves none of the decoder's {depth} blocks to the "
                f"upper half; set 0 to {depth - 1}"
            )
        if (self.high_layers or 1) > depth - first:
            raise ValueError(
                f"high_layers: {self.high_layers} are more than the {depth - first} blocks above "
                f"encoder_layer {layer}; set at most that, or None for all"
            )
        return first
