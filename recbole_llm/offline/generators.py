"""Kinds of generator: language models on this machine, and endpoints."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any

import torch
from recbole.config import Config

from recbole_llm.core.digest import digest
from recbole_llm.core.lines import counted
from recbole_llm.core.runtime import computes_bfloat16
from recbole_llm.features.encoders.adapters import adapter_digest, load_adapted_writer
from recbole_llm.features.encoders.base import EncoderError
from recbole_llm.features.encoders.decoders import (
    Source,
    as_chat,
    lacks_special,
    without_special,
)
from recbole_llm.features.encoders.smollm import NAMES
from recbole_llm.features.store import cache_dir
from recbole_llm.offline.ask import Generator
from recbole_llm.offline.chat import ChatGenerator
from recbole_llm.offline.settings import GeneratorSettings


def create_generators(config: Config, count: int = 1) -> list[Generator]:
    """Generators of a configuration's model, which write different texts on the same prompts.

    Raises:
        EncoderError: the model is nowhere to be had, is not named, or a key lacks.
    """
    settings = GeneratorSettings.of(config)
    if settings.generator == "openai":
        placed = settings.model_copy(update=getattr(config, "secrets", None))
        return [ChatGenerator(placed, draw) for draw in range(count)]
    name = settings.generator_model or NAMES[0]
    source = Source.of(name, settings.generator_revision, cache_dir(config), "generator_model")
    model = LocalModel(source, settings, torch.device(config["device"]))
    return [LocalGenerator(model, draw) for draw in range(count)]


def computing_dtype(name: str, device: torch.device) -> torch.dtype:
    """Torch's precision of a name; "auto" is bfloat16 where the device multiplies in it."""
    if name != "auto":
        return getattr(torch, name)
    return torch.bfloat16 if computes_bfloat16(device) else torch.float32


class LocalModel:
    """A decoder of transformers, loaded when it is first used."""

    def __init__(self, source: Source, settings: GeneratorSettings, device: torch.device) -> None:
        self.source, self.settings, self.device = source, settings, device
        self.dtype = computing_dtype(settings.generator_dtype, device)
        self.adapter = adapter_digest(settings.generator_adapter, "generator_adapter")

    @cached_property
    def digest(self) -> str:
        """Changes with the weights, the adapter's among them, and with the settings."""
        own = self.settings
        begins = ["special tokens before the template's"] if self._adds_special else []
        return digest(
            self.source.digest, self.adapter, str(self.dtype), own.generator_max_new_tokens,
            own.generator_temperature, own.generator_top_k, own.generator_batch_size,
            own.generator_seed, *begins,
        )  # fmt: skip

    @property
    def _adds_special(self) -> bool:
        """Whether the tokenizer adds to what the chat template makes."""
        # SmolLM2's template has its own; its tokenizer is slow to read.
        if self.source.cache is not None or self.tokenizer.chat_template is None:
            return False
        chat = as_chat(self.tokenizer, "")
        bare = self.tokenizer(chat, add_special_tokens=False)["input_ids"]
        return lacks_special(self.tokenizer, chat) and self.tokenizer(chat)["input_ids"] != bare

    @cached_property
    def tokenizer(self) -> Any:
        """Its tokenizer."""
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
        """The prompts as the model was trained to see them; no title can end its turn."""
        tokenizer = self.tokenizer
        return [as_chat(tokenizer, without_special(tokenizer, prompt)) for prompt in prompts]

    def tokens(self, prompts: Sequence[str]) -> Mapping[str, list[list[int]]]:
        """Tokens of `chats`, as the tokenizer gives them; special ones where the template has none.

        Raises:
            EncoderError: the model has no positions for one of them and its text.
        """
        chats, new = self.chats(prompts), self.settings.generator_max_new_tokens
        special = lacks_special(self.tokenizer, chats[0])
        read: Mapping[str, list[list[int]]] = self.tokenizer(chats, add_special_tokens=special)
        longest = max(map(len, read["input_ids"]))
        if self.positions is not None and longest + new > self.positions:
            raise EncoderError(
                f"{self.source.key} '{self.source.path}' has {self.positions} positions; a prompt "
                f"of {longest} tokens and generator_max_new_tokens ({new}) are more: set that to "
                f"less, or what makes the prompt (thought_history, thought_prompt)"
            )
        return read

    @cached_property
    def positions(self) -> int | None:
        """Tokens that the model has positions for; None where it does not say."""
        if self.source.gguf is None:
            return self.source.longest()
        return getattr(self.weights.config, "max_position_embeddings", None)  # the file is slow

    @cached_property
    def filler(self) -> int:
        """The token that follows a text which ends before others, and fills up short prompts, where
        it is masked."""
        tokenizer, ends = self.tokenizer, self.weights.generation_config.eos_token_id
        known = (tokenizer.pad_token_id, tokenizer.eos_token_id)
        own = (*ends, 0) if isinstance(ends, list) else (ends, 0)
        return next(token for token in (*known, *own) if token is not None)

    def inputs(self, prompts: Sequence[str]) -> dict[str, torch.Tensor]:
        """What the model reads, [B, L], filled up on the left."""
        read = self.tokens(prompts)
        width = max(map(len, read["input_ids"]))
        fillers = {"input_ids": self.filler}
        return {
            name: torch.tensor(
                [[fillers.get(name, 0)] * (width - len(row)) + row for row in rows],
                device=self.device,
            )
            for name, rows in read.items()
        }

    def texts(self, ids: list[list[int]]) -> list[str]:
        """The texts of tokens, without those that follow them."""
        for row in ids:
            while row and row[-1] == self.filler:
                row.pop()
        texts: list[str] = self.tokenizer.batch_decode(ids, skip_special_tokens=True)
        return texts


class LocalGenerator:
    """Texts of a decoder of transformers, sampled; `draw` says which of several on the same prompt.

    A batch's random numbers depend on the prompts in it, so that a run that goes on after a stop
    writes the texts that it would have written. `tokens` counts those written.
    """

    together = True

    def __init__(self, model: LocalModel, draw: int) -> None:
        self.model, self.tokens = model, 0
        self.batch_size = model.settings.generator_batch_size
        self.fingerprint = digest("transformers", model.digest, draw)

    def cost(self, prompts: Sequence[str]) -> str:
        """What writing about the prompts takes, in words."""
        model = self.model
        read = sum(len(ids) for ids in model.tokens(prompts)["input_ids"])
        most = len(prompts) * model.settings.generator_max_new_tokens
        return (
            f"{counted(len(prompts), 'text')} by {model.source.path.name} in {model.dtype}: "
            f"{read:,} tokens to read, at most {most:,} to write"
        )

    def generate(self, prompts: Sequence[str]) -> list[str]:
        """One sampled text per prompt."""
        model, own = self.model, self.model.settings
        batch = model.inputs(prompts)
        devices = [] if model.device.type == "cpu" else [model.device]
        with torch.inference_mode(), torch.random.fork_rng(devices):
            torch.manual_seed(int(digest(self.fingerprint, list(prompts))[:12], 16))
            ids = model.weights.generate(
                **batch, do_sample=True, top_k=own.generator_top_k,
                temperature=own.generator_temperature, pad_token_id=model.filler,
                max_new_tokens=own.generator_max_new_tokens,
            )[:, batch["input_ids"].shape[1] :]  # fmt: skip
        self.tokens += int((ids != model.filler).sum())
        return model.texts(ids.tolist())
