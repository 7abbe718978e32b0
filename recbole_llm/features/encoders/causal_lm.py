"""Hidden states of a decoder as text vectors: mean or last token, of any layer."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from recbole_llm.core.digest import digest
from recbole_llm.core.settings import ConfigLike
from recbole_llm.features.encoders.adapters import adapter_digest, with_adapter
from recbole_llm.features.encoders.base import Encoder, EncoderError
from recbole_llm.features.encoders.batching import token_batches
from recbole_llm.features.encoders.decoders import Source
from recbole_llm.features.encoders.settings import CausalLMSettings
from recbole_llm.features.encoders.smollm import NAMES
from recbole_llm.features.settings import EncoderSettings
from recbole_llm.features.tables.table import Matrix

_MAX_LENGTH = 512  # tokens by default; decoders have no limit from training as text encoders


def create(config: ConfigLike) -> Encoder:
    """Factory of the encoder kind ``causal_lm``.

    The model is a local folder, a ``.gguf`` file or a model of the hub. SmolLM2-135M-Instruct,
    the default, comes from the GGUF file of a PyPI package.

    Raises:
        EncoderError: the model cannot be found, or a package to read its GGUF file is missing.
    """
    settings, own = EncoderSettings.placed(config), CausalLMSettings.of(config)
    source = Source.of_encoder(config, "causal_lm", settings.encoder_model or NAMES[0])
    return CausalEncoder(source, settings, own)


class CausalEncoder:
    """A decoder's hidden states, pooled over a text's tokens.

    Texts are padded on the right, whatever the tokenizer prefers: under a causal mask no real
    token sees the padding, and positions start at 0.
    """

    def __init__(self, source: Source, settings: EncoderSettings, own: CausalLMSettings) -> None:
        self.source, self.settings, self.own = source, settings, own
        self.layer = own.encoder_layer
        self.max_tokens = _max_tokens(source, settings.encoder_max_length)
        adapted = adapter_digest(own.encoder_adapter)
        self.fingerprint = digest(
            "causal_lm", source.digest, own.encoder_pooling, self.layer, settings.encoder_prefix,
            bool(settings.encoder_normalize), self.max_tokens, settings.encoder_dtype,
            *([adapted] if adapted else []),
        )  # fmt: skip

    def encode(self, texts: Sequence[str]) -> Matrix:
        """Float32 [len(texts), D]."""
        ids = self._tokenize(texts)
        lengths = [len(sequence) for sequence in ids]
        batches = list(token_batches(lengths, self.settings.encoder_batch_tokens, padded=True))
        with torch.inference_mode():
            parts = [self._forward([ids[i] for i in batch]).cpu().numpy() for batch in batches]
        vectors = np.concatenate(parts)
        out = np.empty_like(vectors)
        out[[i for batch in batches for i in batch]] = vectors
        return out

    def _tokenize(self, texts: Sequence[str]) -> list[list[int]]:
        tokenizer = self._tokenizer
        encoded: list[list[int]] = tokenizer(
            self._prefixed(texts), truncation=True, max_length=self.max_tokens
        )["input_ids"]
        filler = next(
            (t for t in (tokenizer.bos_token_id, tokenizer.eos_token_id) if t is not None), 0
        )
        return [ids or [filler] for ids in encoded]

    def token_counts(self, texts: Sequence[str]) -> list[int]:
        """Tokens of each text, uncut."""
        encoded = self._tokenizer(self._prefixed(texts), truncation=False, verbose=False)
        return [len(ids) for ids in encoded["input_ids"]]

    def _prefixed(self, texts: Sequence[str]) -> list[str]:
        prefix = self.settings.encoder_prefix or ""
        return [f"{prefix}{text}" for text in texts]

    def _forward(self, ids: list[list[int]]) -> Tensor:
        """[B] sequences -> [B, D]."""
        model, layer = self._parts
        lengths = torch.tensor([len(sequence) for sequence in ids])
        width = int(lengths.max())
        padded = torch.tensor([sequence + [0] * (width - len(sequence)) for sequence in ids])
        mask = torch.arange(width) < lengths[:, None]  # [B, L]
        device = self.settings.encoder_device
        output = model(
            input_ids=padded.to(device), attention_mask=mask.long().to(device),
            use_cache=False, output_hidden_states=layer is not None,
        )  # fmt: skip
        states = output.last_hidden_state if layer is None else output.hidden_states[layer]
        vectors = self._pool(states.float(), mask.to(device))
        return (
            nn.functional.normalize(vectors, dim=1) if self.settings.encoder_normalize else vectors
        )

    def _pool(self, states: Tensor, mask: Tensor) -> Tensor:
        """[B, L, D], [B, L] -> [B, D]."""
        lengths = mask.sum(dim=1)
        if self.own.encoder_pooling == "last_token":
            return states[torch.arange(len(states), device=states.device), lengths - 1]
        return (states * mask[:, :, None]).sum(dim=1) / lengths[:, None]

    @cached_property
    def _parts(self) -> tuple[nn.Module, int | None]:
        """The model, and which of its hidden states to take; None: the last."""
        settings = self.settings
        model = with_adapter(self.source, settings.torch_dtype, self.own.encoder_adapter)
        told: Any = model.config.get_text_config()  # type: ignore[union-attr, operator]
        if self.source.gguf:  # `_max_tokens` does not read its header for a short limit
            positions = getattr(told, "max_position_embeddings", self.max_tokens)
            _check_length(self.source, self.max_tokens, positions)
        depth = told.num_hidden_layers
        layer = layer_index(self.layer, depth)
        last = layer == depth or drop_blocks(model, layer)
        model.to(settings.encoder_device).eval()
        return model, None if last else layer

    @cached_property
    def _tokenizer(self) -> Any:
        return self.source.tokenizer()


def _max_tokens(source: Source, asked: int | None) -> int:
    """Tokens that a text is cut to.

    Raises:
        EncoderError: `asked` exceeds the model's positions.
    """
    short = (asked or 0) <= _MAX_LENGTH  # not worth the seconds of reading a GGUF file
    longest = None if source.gguf and short else source.longest()
    if longest is None:
        return asked or _MAX_LENGTH
    if asked is not None:
        _check_length(source, asked, longest)
    return asked or min(longest, _MAX_LENGTH)


def _check_length(source: Source, asked: int, longest: int) -> None:
    if asked > longest:
        raise EncoderError(
            f"encoder_max_length: '{source.path}' reads {longest} tokens at most, got {asked}; set "
            f"{longest} or less"
        )


def layer_index(layer: int, depth: int) -> int:
    """`encoder_layer` counted from the front, 0 to depth; ValueError if it is out of range."""
    found = layer + depth + 1 if layer < 0 else layer
    if not 0 <= found <= depth:
        raise ValueError(f"encoder_layer: {layer} is out of range; the model has {depth} layers")
    return found


def drop_blocks(model: nn.Module, layer: int) -> bool:
    """Cut a Llama-style model after block `layer`, so that it returns that block's output.

    Such a model normalizes only the last hidden states, so the norm goes with the blocks above.

    Returns:
        Whether the model was cut; if so, the blocks above are no longer computed.
    """
    blocks = getattr(model, "layers", None)
    if not isinstance(blocks, nn.ModuleList) or not hasattr(model, "norm"):
        return False
    model.layers = blocks[:layer]
    model.norm = nn.Identity()
    return True
