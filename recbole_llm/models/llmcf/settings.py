"""LLM-CF's keys."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal, Self, get_args

from pydantic import model_validator

from recbole_llm.core.marks import Local, Mark
from recbole_llm.core.settings import (
    Between,
    ConfigLike,
    Count,
    Natural,
    NonNegative,
    OneOrMore,
    Positive,
    Settings,
    Space,
    Text,
    check_divides,
)
from recbole_llm.layers.backbones.settings import BACKBONES, BackboneSettings
from recbole_llm.models.settings import PointwiseSettings, SequentialSettings, TowerSettings, Widths
from recbole_llm.offline.settings import TuneSettings

Tower = Literal["DIN", "DeepFM", "DCN", "AutoInt"]
PROMPT_FIELDS = frozenset(("history", "target", "chosen"))


class ThoughtSettings(Settings):
    """The examples, and the chains of thought about them."""

    read_with = {
        **dict.fromkeys(("thought_candidates", "thought_prompt"), ("thoughts", ("llm",))),
        "reconstruction_weight": ("thoughts", ("llm", "item_text")),
    }

    thoughts: Literal["llm", "item_text", "none"] = "llm"
    """What an example's chain-of-thought token holds. llm: the language model's text (paper);
    item_text: the text of the example's item (no language model); none: there is no token."""
    thought_examples: Count = 256
    """Number of training interactions that are written about, half of each label if there are
    labels; paper: a tenth of all."""
    thought_candidates: Count = 3
    """Number of texts that are written about an example; the best is kept."""
    thought_history: Count = 5
    """Number of last items of the history in the prompt; if the model learns labels of the data,
    of the items with label 1."""
    # A checkpoint holds what was made of the texts, so loading asks for no template.
    thought_prompt: Annotated[Text | None, Mark.TEMPLATE] = None
    """Template of the prompt over `history` (texts of items, shortened), `target` (likewise) and
    `chosen` (whether the target was). None: the data set's in properties/prompt, else
    thought.jinja."""
    thought_seed: Natural = 0
    """Seed for drawing the examples."""

    def check(self, config: ConfigLike) -> None:
        """Raise PromptError for a template that cannot be found, parsed or filled."""
        from recbole_llm.features.contents.templates import find_template

        dataset = str(config["dataset"])
        template = find_template(self.thought_prompt, "thought_prompt", "thought", dataset)
        template.check(PROMPT_FIELDS)
        if self.thoughts == "llm" and config["encoder"] in ("precomputed", "image"):
            raise ValueError(
                f"encoder: {config['encoder']} cannot encode what the language model writes; "
                f"choose another encoder, or set thoughts: item_text"
            )


class RecGenSettings(TuneSettings):
    """The stage recgen, which tunes the generator's model (prepare --stage=recgen)."""

    recgen_instructions: Local[Text | None] = None
    """File of general instructions that are learned together with the data set's, so that the
    model keeps its abilities: JSON lines of "instruction", "output" and optionally "input". None:
    no such instructions."""


class ContextSettings(Settings):
    """The in-context transformer."""

    elsewhere: ClassVar[tuple[tuple[str, ...], str]] = ((), "")
    """Backbones of the other task, and what an error says of them."""

    n_examples: Count = 4
    """K, examples in the context of a query; paper: 4."""
    retrieval: Literal["nearest", "random"] = "nearest"
    """nearest: examples with the most similar texts (paper); random: any (ablation)."""
    reconstruction_weight: NonNegative = 0.1
    """Weight of the loss that reconstructs the chains of thought; 0: none (ablation)."""
    context_layers: Count = 2
    """Layers of the decoder; authors: 2."""
    context_heads: Count = 2
    """Attention heads of the decoder."""
    text_hidden_sizes: Annotated[list[Count], OneOrMore] = []
    """Widths of the hidden layers of g, the map of text vectors."""

    @classmethod
    def of(cls, config: ConfigLike) -> Self:
        """See `Settings`; for a backbone of the other task the error names that task's model."""
        name = config["backbone"] if "backbone" in config else None
        others, advice = cls.elsewhere
        if name in others:
            raise ValueError(f"backbone: {name} {advice}")
        return super().of(config)


class LLMCFSettings(
    ThoughtSettings, RecGenSettings, ContextSettings, TowerSettings, PointwiseSettings
):
    """LLM-CF (Sun et al., CIKM 2024, arXiv 2403.17688) for CTR."""

    elsewhere = (BACKBONES, "ranks a catalogue; use --model=LLMCFRetrieval")
    search_space: ClassVar[Space] = {
        "n_examples": (2, 4, 8),
        "reconstruction_weight": Between(0.01, 1.0),
        "context_size": (16, 32, 64),
        "dropout_prob": (0.0, 0.2),
    }

    backbone: Tower = "DIN"
    """RecBole's model whose MLP gets the feature w."""
    mlp_hidden_size: Widths = [128, 64]
    """Widths of the hidden layers of the MLP, and of DIN's attention to the history; RecBole's DIN:
    three of 256, which take ten times as long."""
    stopping_step: Natural = 2
    """Evaluations without improvement on validation that early stopping allows."""
    context_size: Count = 32
    """H, size of the tokens and of w."""

    @model_validator(mode="after")
    def _heads_divide(self) -> Self:
        check_divides(self, "context_heads", "context_size", twice=True)
        return self


class LLMCFRetrievalSettings(
    ThoughtSettings, RecGenSettings, ContextSettings, BackboneSettings, SequentialSettings
):
    """LLM-CF (Sun et al., CIKM 2024, arXiv 2403.17688) for retrieval."""

    elsewhere = (get_args(Tower), "predicts clicks; use --model=LLMCF")
    search_space: ClassVar[Space] = {
        "n_examples": (2, 4, 8),
        "reconstruction_weight": Between(0.01, 1.0),
        "feature_weight": Between(0.01, 1.0),
    }

    feature_weight: Positive = 0.1
    """Weight of w in the user's state; authors: 0.1."""

    @model_validator(mode="after")
    def _context_heads_divide(self) -> Self:
        check_divides(self, "context_heads", "hidden_size", twice=True)
        return self
