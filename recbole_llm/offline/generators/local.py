"""Language models that write texts locally."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any

import torch

from recbole_llm.core.digest import digest
from recbole_llm.core.lines import plural
from recbole_llm.core.memory import memory_needed_by
from recbole_llm.core.runtime import computes_bfloat16
from recbole_llm.features.encoders.adapters import adapter_digest, load_adapted_writer
from recbole_llm.features.encoders.base import EncoderError
from recbole_llm.features.encoders.decoders import (
    Source,
    as_chat,
    lacks_special,
    without_special,
)
from recbole_llm.offline.generators.base import Generator
from recbole_llm.offline.settings import GeneratorSettings


def computing_dtype(name: str, device: torch.device) -> torch.dtype:
    """Return the torch dtype of a name; "auto" is bfloat16 if the device computes in it."""
    if name != "auto":
        return getattr(torch, name)
    return torch.bfloat16 if computes_bfloat16(device) else torch.float32


class LocalModel:
    """A decoder of transformers, loaded on first use."""

    def __init__(self, source: Source, settings: GeneratorSettings, device: torch.device) -> None:
        self.source, self.settings, self.device = source, settings, device
        self.dtype = computing_dtype(settings.generator_dtype, device)
        self.adapter_digest = adapter_digest(settings.generator_adapter, "generator_adapter")

    @cached_property
    def digest(self) -> str:
        """A digest of the weights, the adapter and the settings."""
        settings = self.settings
        marks = ["special tokens before the template's"] if self._adds_special else []
        return digest(
            self.source.digest, self.adapter_digest, str(self.dtype),
            settings.generator_max_new_tokens, settings.generator_temperature,
            settings.generator_top_k, settings.generator_batch_size,
            settings.generator_seed, *marks,
        )  # fmt: skip

    @property
    def _adds_special(self) -> bool:
        """Whether the tokenizer adds special tokens to the chat template's."""
        # SmolLM2's template has its own, and its tokenizer is too slow to load just for this.
        if self.source.cache is not None or self.tokenizer.chat_template is None:
            return False
        chat = as_chat(self.tokenizer, "")
        bare = self.tokenizer(chat, add_special_tokens=False)["input_ids"]
        return lacks_special(self.tokenizer, chat) and self.tokenizer(chat)["input_ids"] != bare

    @cached_property
    def tokenizer(self) -> Any:
        """The tokenizer."""
        return self.source.tokenizer()

    @cached_property
    def weights(self) -> Any:
        """The model, with its adapter."""
        folder = self.settings.generator_adapter
        if folder is None:
            model: Any = self.source.model(self.dtype, "AutoModelForCausalLM")
        else:
            model = load_adapted_writer(self.source, self.dtype, folder, "generator_adapter")
        return model.to(self.device).eval()

    def chats(self, prompts: Sequence[str]) -> list[str]:
        """Format prompts by the chat template; no title in them can end the user's turn."""
        tokenizer = self.tokenizer
        return [as_chat(tokenizer, without_special(tokenizer, prompt)) for prompt in prompts]

    def tokens(self, prompts: Sequence[str]) -> Mapping[str, list[list[int]]]:
        """Tokenize the `chats`; with special tokens if the template has none.

        Raises:
            EncoderError: a prompt and its text exceed the model's positions.
        """
        chats, max_new = self.chats(prompts), self.settings.generator_max_new_tokens
        special = lacks_special(self.tokenizer, chats[0])
        tokens: Mapping[str, list[list[int]]] = self.tokenizer(chats, add_special_tokens=special)
        longest = max(map(len, tokens["input_ids"]))
        if self.positions is not None and longest + max_new > self.positions:
            raise EncoderError(
                f"{self.source.key} '{self.source.path}' has {self.positions} positions; a prompt "
                f"of {longest} tokens and generator_max_new_tokens ({max_new}) exceed them: lower "
                f"the latter, or shorten the prompt (thought_history, thought_prompt)"
            )
        return tokens

    @cached_property
    def positions(self) -> int | None:
        """The number of positions of the model; None if it does not say."""
        if self.source.gguf is None:
            return self.source.longest()
        return getattr(self.weights.config, "max_position_embeddings", None)  # GGUF reads slowly

    @cached_property
    def pad_token_id(self) -> int:
        """The token that pads short prompts (masked there) and texts that end early."""
        tokenizer, ends = self.tokenizer, self.weights.generation_config.eos_token_id
        ends = ends if isinstance(ends, list) else [ends]
        candidates = (tokenizer.pad_token_id, tokenizer.eos_token_id, *ends, 0)
        return next(token for token in candidates if token is not None)

    def inputs(self, prompts: Sequence[str]) -> dict[str, torch.Tensor]:
        """Return the model's inputs, [B, L], padded on the left."""
        tokens = self.tokens(prompts)
        width = max(map(len, tokens["input_ids"]))
        padding = {"input_ids": self.pad_token_id}
        return {
            name: torch.tensor(
                [[padding.get(name, 0)] * (width - len(row)) + row for row in rows],
                device=self.device,
            )
            for name, rows in tokens.items()
        }

    def texts(self, ids: list[list[int]]) -> list[str]:
        """Decode tokens to texts, without padding and special tokens."""
        for row in ids:
            while row and row[-1] == self.pad_token_id:
                row.pop()
        texts: list[str] = self.tokenizer.batch_decode(ids, skip_special_tokens=True)
        return texts


class LocalGenerator(Generator):
    """Samples texts from a decoder of transformers; each `draw` gives other texts.

    A batch's random numbers depend on its prompts, so that a resumed run writes the same texts.
    """

    together = True

    def __init__(self, model: LocalModel, draw: int) -> None:
        self.model = model
        self.batch_size = model.settings.generator_batch_size
        self.fingerprint = digest("transformers", model.digest, draw)

    def cost(self, prompts: Sequence[str]) -> str:
        """Describe the tokens to read and to write."""
        model = self.model
        read = sum(len(ids) for ids in model.tokens(prompts)["input_ids"])
        most = len(prompts) * model.settings.generator_max_new_tokens
        return (
            f"{plural(len(prompts), 'text')} by {model.source.path.name} in {model.dtype}: "
            f"{read:,} tokens to read, at most {most:,} to write"
        )

    def generate(self, prompts: Sequence[str]) -> list[str]:
        """Sample one text per prompt."""
        model, settings = self.model, self.model.settings
        batch = model.inputs(prompts)
        devices = [] if model.device.type == "cpu" else [model.device]
        needed = memory_needed_by(
            f"generating {len(prompts)} texts at once",
            "lower generator_batch_size, or choose a smaller generator_model",
        )
        with torch.inference_mode(), torch.random.fork_rng(devices), needed:
            torch.manual_seed(int(digest(self.fingerprint, list(prompts))[:12], 16))
            ids = model.weights.generate(
                **batch, do_sample=True, top_k=settings.generator_top_k,
                temperature=settings.generator_temperature, pad_token_id=model.pad_token_id,
                max_new_tokens=settings.generator_max_new_tokens,
            )[:, batch["input_ids"].shape[1] :]  # fmt: skip
        self.tokens += int((ids != model.pad_token_id).sum())
        return model.texts(ids.tolist())
