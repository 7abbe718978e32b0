"""Sentence encoders of the commonest make (BERT, pooling, maybe normalisation), computed fast."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from recbole_llm.features.digest import digest, files_digest
from recbole_llm.features.encoders import bert
from recbole_llm.features.encoders.batching import runs, token_batches
from recbole_llm.features.encoders.options import Options
from recbole_llm.features.table import Matrix

if TYPE_CHECKING:
    from tokenizers import Tokenizer

_POOLINGS = ("mean", "cls", "max")
_OLD_FLAGS = {
    "pooling_mode_cls_token": "cls",
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_max_tokens": "max",
    "pooling_mode_mean_sqrt_len_tokens": "mean_sqrt_len",
    "pooling_mode_weightedmean_tokens": "weighted_mean",
    "pooling_mode_lasttoken": "last",
}


@dataclass(frozen=True)
class _Plan:
    """What the modules of a folder compute."""

    files: tuple[Path, ...]
    bert: dict[str, Any]
    pooling: str
    normalize: bool
    max_length: int
    prefix: str


class SentenceBert:
    """An encoder of a model folder in sentence-transformers' layout.

    Args:
        folder: the model.
        plan: what it computes.
        options: `normalize`, `max_length` and `prefix` are settled.
    """

    def __init__(self, folder: Path, plan: _Plan, options: Options) -> None:
        self.folder = folder
        self.pooling = plan.pooling
        self.options = options
        self.dimension = int(plan.bert["hidden_size"])
        self.fingerprint = digest(
            "sentence", files_digest(folder, plan.files), options.prefix, options.normalize,
            options.max_length, options.dtype,
        )  # fmt: skip
        self._config = plan.bert
        self._model: bert.PackedBert | None = None
        self._tokenizer: Tokenizer | None = None

    @classmethod
    def from_folder(cls, folder: Path, options: Options) -> SentenceBert | None:
        """The encoder of a folder, or None if its model is of another make."""
        plan = _plan(folder)
        if plan is None:
            return None
        settled = replace(
            options,
            normalize=plan.normalize if options.normalize is None else options.normalize,
            max_length=min(options.max_length or plan.max_length, plan.max_length),
            prefix=plan.prefix if options.prefix is None else options.prefix,
        )
        return cls(folder, plan, settled)

    def encode(self, texts: Sequence[str]) -> Matrix:
        """Float32 [len(texts), D]."""
        ids = self._tokenize(texts)
        out = np.empty((len(texts), self.dimension), np.float32)
        lengths = [len(sequence) for sequence in ids]
        with torch.inference_mode():
            for batch in token_batches(lengths, self.options.batch_tokens):
                out[batch] = self._forward([ids[i] for i in batch]).cpu().numpy()
        return out

    def _forward(self, ids: list[list[int]]) -> Tensor:
        """Sequences in order of length -> pooled vectors [len(ids), D]."""
        if self._model is None:
            self._model = self._load()
        blocks = runs([len(sequence) for sequence in ids])
        states = self._model(torch.tensor([i for sequence in ids for i in sequence]), blocks)
        pooled, start = [], 0
        for count, length in blocks:
            part = states[start : start + count * length].view(count, length, -1)
            pooled.append(_pool(part, self.pooling))
            start += count * length
        vectors = torch.cat(pooled)
        return F.normalize(vectors, dim=1) if self.options.normalize else vectors

    def _load(self) -> bert.PackedBert:
        from safetensors.torch import load_file

        weights = load_file(self.folder / "model.safetensors")
        return bert.PackedBert(self._config, weights, self.options.torch_dtype, self.options.device)

    def _tokenize(self, texts: Sequence[str]) -> list[list[int]]:
        from tokenizers import Tokenizer

        if self._tokenizer is None:
            self._tokenizer = Tokenizer.from_file(str(self.folder / "tokenizer.json"))
            self._tokenizer.no_padding()
            assert self.options.max_length is not None
            self._tokenizer.enable_truncation(self.options.max_length)
        prefix = self.options.prefix or ""
        encoded = self._tokenizer.encode_batch([f"{prefix}{text}" for text in texts])
        return [e.ids for e in encoded]


def _pool(states: Tensor, pooling: str) -> Tensor:
    """[B, L, H] -> [B, H]."""
    if pooling == "cls":
        return states[:, 0]
    return states.amax(dim=1) if pooling == "max" else states.mean(dim=1)


def _plan(folder: Path) -> _Plan | None:
    """Read a folder's configuration; None if this code does not compute such a model."""
    names = ("config.json", "model.safetensors", "tokenizer.json", "modules.json")
    if not all((folder / name).is_file() for name in names):
        return None
    config = _json(folder / "config.json")
    modules = _json(folder / "modules.json")
    kinds = [m["type"].rpartition(".")[2] for m in modules]
    if not bert.supported(config) or kinds[:2] != ["Transformer", "Pooling"]:
        return None
    pooling_file = folder / modules[1]["path"] / "config.json"
    pooling = _pooling(_json(pooling_file))
    if kinds[2:] not in ([], ["Normalize"]) or pooling is None:
        return None
    settings = _json(folder / "sentence_bert_config.json")
    if settings.get("do_lower_case"):
        return None
    longest = int(config.get("max_position_embeddings", 512))
    return _Plan(
        files=(*(folder / name for name in names), pooling_file),
        bert=config,
        pooling=pooling,
        normalize="Normalize" in kinds,
        max_length=min(int(settings.get("max_seq_length") or longest), longest),
        prefix=_default_prefix(_json(folder / "config_sentence_transformers.json")),
    )


def _pooling(config: dict[str, Any]) -> str | None:
    modes = config.get("pooling_mode") or [m for f, m in _OLD_FLAGS.items() if config.get(f)]
    modes = [modes] if isinstance(modes, str) else modes
    if len(modes) != 1 or modes[0] not in _POOLINGS or not config.get("include_prompt", True):
        return None
    return str(modes[0])


def _default_prefix(config: dict[str, Any]) -> str:
    name = config.get("default_prompt_name")
    return str(config.get("prompts", {}).get(name, "")) if name else ""


def _json(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
