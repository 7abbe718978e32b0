"""Texts, configurations and encoders that several tests of the embeddings share."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from recbole_llm.features.settings import EncoderSettings
from recbole_llm.testing import HashEncoder

WORDS = [
    "[PAD]",
    "[UNK]",
    "[CLS]",
    "[SEP]",
    *["the", "a", "red", "blue", "green", "story", "heat", "of", "and", "night"],
]
TEXTS = [
    "the red story",
    "heat",
    "",
    "a story of the blue night and the green heat",
    "a night",
    "x",
]
ITEMS = """item_id:token\tmovie_title:token_seq\tgenre:token\tprice:float\tvector:float_seq
10\tToy Story\tcomedy\t1.5\t1 0
20\tHeat\tcrime\t2\t0 1
30\tBabe\t\t2.5\t1 1
40\tUnseen\tdrama\t3\t1 1
"""


class PlainConfig(dict[str, Any]):
    """A configuration whose missing keys are None, as in RecBole's."""

    model_class = object  # no known model

    def __missing__(self, key: str) -> None:
        return None

    @property
    def final_config_dict(self) -> dict[str, Any]:
        return self


def encoder_settings(**keys: Any) -> EncoderSettings:
    """Return the settings with the given keys ``encoder_<key>``, on the CPU."""
    return EncoderSettings.placed(PlainConfig({f"encoder_{k}": v for k, v in keys.items()}))


class CountingEncoder(HashEncoder):
    """Records the texts that it encodes."""

    def __init__(self, dimension: int = 8) -> None:
        super().__init__(dimension)
        self.seen: list[str] = []

    def encode(self, texts: Sequence[str]) -> np.ndarray:
        self.seen += texts
        return super().encode(texts)


def write_tokenizer(
    folder: Path, special: bool, words: Sequence[str] = WORDS, **names: str
) -> None:
    """Write a word tokenizer, which puts [CLS] and [SEP] around a text if ``special``."""
    from tokenizers import Tokenizer
    from tokenizers.models import WordLevel
    from tokenizers.normalizers import Lowercase
    from tokenizers.pre_tokenizers import Whitespace
    from tokenizers.processors import TemplateProcessing

    tokenizer = Tokenizer(WordLevel({w: i for i, w in enumerate(words)}, unk_token="[UNK]"))
    tokenizer.normalizer, tokenizer.pre_tokenizer = Lowercase(), Whitespace()
    if special:
        tokenizer.post_processor = TemplateProcessing(
            single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
        )
    tokenizer.save(str(folder / "tokenizer.json"))
    settings = {"tokenizer_class": "PreTrainedTokenizerFast", "pad_token": "[PAD]"}
    (folder / "tokenizer_config.json").write_text(json.dumps({**settings, **names}))
