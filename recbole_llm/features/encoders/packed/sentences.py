"""The most common sentence encoders: BERT, mean or first-token pooling, optional normalization."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from recbole_llm.core.digest import digest, files_digest
from recbole_llm.core.errors import named_error
from recbole_llm.features.encoders.base import EncoderError
from recbole_llm.features.encoders.batching import token_batches
from recbole_llm.features.encoders.locate import read_json
from recbole_llm.features.encoders.packed.bert import PackedBert
from recbole_llm.features.encoders.sentence_folder import max_text_tokens
from recbole_llm.features.settings import EncoderSettings
from recbole_llm.features.tables.table import Matrix

if TYPE_CHECKING:
    from tokenizers import Tokenizer

# Keys of tokenizer_config.json, and their names in the normalizer of tokenizer.json.
_NORMALIZER = {
    "do_lower_case": "lowercase",
    "strip_accents": "strip_accents",
    "tokenize_chinese_chars": "handle_chinese_chars",
}
# Keys of config_sentence_transformers.json that only the library follows.
_OF_LIBRARY = ("default_prompt_name", "truncate_dim")
_POOLINGS = {"pooling_mode_cls_token": "cls", "pooling_mode_mean_tokens": "mean"}


class SentenceBert:
    """An encoder of a model folder in sentence-transformers' layout. What the settings leave open
    follows the model's own plan."""

    def __init__(self, folder: Path, plan: _Plan, settings: EncoderSettings) -> None:
        self.folder, self.plan, self.settings = folder, plan, settings
        wanted = settings.encoder_normalize
        self.normalize = plan.normalize if wanted is None else wanted
        self.prefix = settings.encoder_prefix or ""
        self.max_tokens = min(settings.encoder_max_length or plan.max_length, plan.max_length)
        self.dimension = int(plan.bert["hidden_size"])
        self.fingerprint = digest(
            "sentence", files_digest(folder, plan.files), self.prefix, self.normalize,
            self.max_tokens, settings.encoder_dtype,
        )  # fmt: skip

    @classmethod
    def from_folder(cls, folder: Path, settings: EncoderSettings) -> SentenceBert | None:
        """The encoder of a folder, or None if this class does not support its model."""
        plan = _read_plan(folder)
        return None if plan is None else cls(folder, plan, settings)

    def encode(self, texts: Sequence[str]) -> Matrix:
        """Float32 [len(texts), D]."""
        ids = self.tokenize(texts)
        out = np.empty((len(texts), self.dimension), np.float32)
        lengths = [len(sequence) for sequence in ids]
        with torch.inference_mode():
            for batch in token_batches(lengths, self.settings.encoder_batch_tokens):
                out[batch] = self._forward([ids[i] for i in batch]).cpu().numpy()
        return out

    def tokenize(self, texts: Sequence[str]) -> list[list[int]]:
        """Token ids of each text, cut to `max_tokens`."""
        encoded = self._tokenizer.encode_batch([f"{self.prefix}{text}" for text in texts])
        return [e.ids for e in encoded]

    def token_counts(self, texts: Sequence[str]) -> list[int]:
        """Tokens of each text, uncut."""
        self._tokenizer.no_truncation()
        try:
            return [len(ids) for ids in self.tokenize(texts)]
        finally:
            self._tokenizer.enable_truncation(self.max_tokens)

    def _forward(self, ids: list[list[int]]) -> Tensor:
        """Sequences in order of length -> pooled vectors [len(ids), D]."""
        runs = [(len(list(group)), n) for n, group in groupby(len(sequence) for sequence in ids)]
        states = self._bert(torch.tensor([i for sequence in ids for i in sequence]), runs)
        parts = torch.split(states, [count * length for count, length in runs])
        blocks = [part.view(*run, -1) for part, run in zip(parts, runs, strict=True)]  # [n, L, H]
        first = self.plan.pooling == "cls"
        vectors = torch.cat([block[:, 0] if first else block.mean(1) for block in blocks])
        return F.normalize(vectors, dim=1) if self.normalize else vectors

    @cached_property
    def _tokenizer(self) -> Tokenizer:
        from tokenizers import Tokenizer

        with _naming_damage(self.folder / "tokenizer.json") as file:
            tokenizer = Tokenizer.from_file(str(file))
        tokenizer.no_padding()
        tokenizer.enable_truncation(self.max_tokens)
        return tokenizer

    @cached_property
    def _bert(self) -> PackedBert:
        from safetensors.torch import load_file

        device = self.settings.encoder_device or "cpu"
        with _naming_damage(self.folder / "model.safetensors") as file:
            weights = load_file(file)
            return PackedBert(self.plan.bert, weights, self.settings.torch_dtype, device)


@dataclass(frozen=True)
class _Plan:
    """The computation that the modules of a folder describe."""

    files: tuple[Path, ...]
    bert: dict[str, Any]  # config.json
    pooling: str  # mean or cls
    normalize: bool
    max_length: int


@contextmanager
def _naming_damage(file: Path) -> Iterator[Path]:
    try:
        yield file
    except Exception as error:  # whatever a damaged file makes its reader raise
        raise EncoderError(f"'{file}' cannot be read ({named_error(error)})") from error


def _read_plan(folder: Path) -> _Plan | None:
    """Read a folder's configuration; None if `SentenceBert` does not support its model."""
    names = ("config.json", "model.safetensors", "tokenizer.json", "modules.json")
    if not all((folder / name).is_file() for name in names):
        return None
    bert, modules = read_json(folder / "config.json"), read_json(folder / "modules.json", list)
    kinds = [m["type"].rpartition(".")[2] for m in modules]
    if kinds not in (["Transformer", "Pooling"], ["Transformer", "Pooling", "Normalize"]):
        return None
    pooling_file = folder / modules[1]["path"] / "config.json"
    pooling = _pooling(read_json(pooling_file))
    settings = read_json(folder / "sentence_bert_config.json")
    library = read_json(folder / "config_sentence_transformers.json")
    if settings.get("do_lower_case") or any(map(library.get, _OF_LIBRARY)):
        return None
    if pooling is None or not (_is_plain_bert(bert) and _is_plain_tokenizer(folder)):
        return None
    return _Plan(
        files=(*(folder / name for name in names), pooling_file),
        bert=bert,
        pooling=pooling,
        normalize="Normalize" in kinds,
        max_length=max_text_tokens(folder) or 512,
    )


def _is_plain_bert(config: Mapping[str, Any]) -> bool:
    return (
        config.get("model_type") == "bert"
        and config.get("hidden_act", "gelu") == "gelu"
        and config.get("position_embedding_type", "absolute") == "absolute"
        and not config.get("is_decoder", False)
    )


def _is_plain_tokenizer(folder: Path) -> bool:
    """Whether the library, which obeys tokenizer_config.json, would tokenize as tokenizer.json
    says, and cut long texts at their end."""
    told, whole = read_json(folder / "tokenizer_config.json"), read_json(folder / "tokenizer.json")
    made, cut = whole.get("normalizer") or {}, whole.get("truncation") or {}
    side = told.get("truncation_side", cut.get("direction", "right"))
    if str(side).lower() != "right":
        return False
    return all(told[key] == made.get(name) for key, name in _NORMALIZER.items() if key in told)


def _pooling(config: Mapping[str, Any]) -> str | None:
    """``mean`` or ``cls``, in the format of older or newer versions of the library; else None."""
    named = config.get("pooling_mode")
    flags = [key for key, on in config.items() if key.startswith("pooling_mode_") and on is True]
    modes = [named] if named else [_POOLINGS.get(flag) for flag in flags]
    known = len(modes) == 1 and modes[0] in _POOLINGS.values()
    return str(modes[0]) if known and config.get("include_prompt", True) else None
