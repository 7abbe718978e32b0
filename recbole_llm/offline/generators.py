"""Kinds of generator: language models on this machine, and endpoints."""

from __future__ import annotations

import json
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from recbole_llm.core.secrets import without_credentials
from recbole_llm.features.digest import digest, files_digest
from recbole_llm.features.encoders.base import EncoderError
from recbole_llm.features.encoders.decoders import Source
from recbole_llm.features.encoders.endpoint import Endpoint, api_key
from recbole_llm.features.encoders.smollm import NAMES
from recbole_llm.features.store import cache_dir
from recbole_llm.offline.settings import GeneratorSettings

if TYPE_CHECKING:
    from recbole.config import Config

    from recbole_llm.offline.generate import Generator

_MAX_BYTES = 1 << 20  # of an endpoint's answer


def create_generator(config: Config, draw: int = 0) -> Generator:
    """The generator of a configuration; further draws write other texts on the same prompts.

    Raises:
        EncoderError: the model is nowhere to be had, is not named, or a key lacks.
    """
    settings = GeneratorSettings.of(config)
    if settings.generator == "openai":
        secrets = getattr(config, "secrets", None)
        return ChatGenerator(settings.model_copy(update=secrets), draw)
    name = settings.generator_model or NAMES[0]
    source = Source.of(name, settings.generator_revision, cache_dir(config))
    return LocalGenerator(source, settings, torch.device(config["device"]), draw)


def computing_dtype(name: str, device: torch.device) -> torch.dtype:
    """Torch's precision of a name; "auto" is bfloat16 where the device multiplies in it."""
    if name != "auto":
        found: torch.dtype = getattr(torch, name)
        return found
    if device.type == "cuda":
        fast = torch.cuda.is_bf16_supported()
    else:
        fast = device.type == "cpu" and torch.ops.mkldnn._is_mkldnn_bf16_supported()
    return torch.bfloat16 if fast else torch.float32


class LocalGenerator:
    """Texts of a decoder of transformers, sampled.

    A batch's random numbers depend on the prompts in it, so that a run that goes on after a stop
    writes the texts that it would have written. `tokens` counts those written.

    Args:
        source: the model's files.
        settings: how.
        device: where it computes.
        draw: which of several texts on the same prompt.
    """

    def __init__(
        self, source: Source, settings: GeneratorSettings, device: torch.device, draw: int = 0
    ) -> None:
        self.source, self.settings, self.device, self.tokens = source, settings, device, 0
        self.dtype = computing_dtype(settings.generator_dtype, device)
        self.adapter = None
        if settings.generator_adapter is not None:
            self.adapter = Path(settings.generator_adapter).expanduser()
            if not (self.adapter / "adapter_config.json").is_file():
                raise EncoderError(
                    f"generator_adapter '{self.adapter}' is no adapter: it has no "
                    f"adapter_config.json"
                )
        self.fingerprint = digest(
            "transformers", source.digest, self._adapter_digest(), str(self.dtype),
            settings.generator_max_new_tokens, settings.generator_temperature,
            settings.generator_top_k, settings.generator_batch_size, settings.generator_seed, draw,
        )  # fmt: skip

    def _adapter_digest(self) -> str | None:
        if self.adapter is None:
            return None
        return files_digest(self.adapter, [f for f in self.adapter.iterdir() if f.is_file()])

    def cost(self, prompts: Sequence[str]) -> str:
        """What writing about the prompts takes, in words."""
        read = sum(len(ids) for ids in self._tokenizer(self._chats(prompts))["input_ids"])
        most = len(prompts) * self.settings.generator_max_new_tokens
        return (
            f"{len(prompts):,} texts by {self.source.path.name} in {self.dtype}: {read:,} tokens "
            f"to read, at most {most:,} to write"
        )

    def generate(self, prompts: Sequence[str]) -> list[str]:
        """One sampled text per prompt."""
        own, tokenizer = self.settings, self._tokenizer
        batch = tokenizer(self._chats(prompts), return_tensors="pt", padding=True).to(self.device)
        devices = [] if self.device.type == "cpu" else [self.device]
        with torch.inference_mode(), torch.random.fork_rng(devices):
            torch.manual_seed(int(digest(self.fingerprint, list(prompts))[:12], 16))
            ids = self._model.generate(
                **batch, do_sample=True, temperature=own.generator_temperature,
                top_k=own.generator_top_k, max_new_tokens=own.generator_max_new_tokens,
                pad_token_id=tokenizer.pad_token_id,
            )[:, batch["input_ids"].shape[1] :]  # fmt: skip
        self.tokens += int((ids != tokenizer.pad_token_id).sum())
        texts: list[str] = tokenizer.batch_decode(ids, skip_special_tokens=True)
        return texts

    def _chats(self, prompts: Sequence[str]) -> list[str]:
        """The prompts as the model was trained to see them; no title can end its turn."""
        tokenizer, safe = self._tokenizer, list(prompts)
        for special in tokenizer.all_special_tokens:
            safe = [prompt.replace(special, " ") for prompt in safe]
        if tokenizer.chat_template is None:
            return safe
        return [
            tokenizer.apply_chat_template(
                [{"role": "user", "content": prompt}], tokenize=False, add_generation_prompt=True
            )
            for prompt in safe
        ]

    @cached_property
    def _tokenizer(self) -> Any:
        tokenizer = self.source.tokenizer()
        tokenizer.padding_side = "left"
        if tokenizer.pad_token is None:
            tokenizer.pad_token = tokenizer.eos_token
        return tokenizer

    @cached_property
    def _model(self) -> Any:
        model: Any = self.source.model(self.dtype, "AutoModelForCausalLM")
        if self.adapter is not None:
            from peft import PeftModel

            model = PeftModel.from_pretrained(model, str(self.adapter))
        return model.to(self.device).eval()


class ChatGenerator:
    """Texts from an endpoint that speaks OpenAI's chat API; answers are bounded and checked.

    Args:
        settings: model, address, bounds, concurrency.
        draw: which of several texts on the same prompt.
    """

    def __init__(self, settings: GeneratorSettings, draw: int = 0) -> None:
        self.settings, self.draw, self.tokens = settings, draw, 0
        if settings.generator_model is None:
            raise EncoderError("set generator_model to the model's name at the endpoint")
        url = settings.generator_base_url
        key = api_key(settings.generator_api_key_env, url, "generator")
        self.model = settings.generator_model
        self.endpoint = Endpoint(
            self.model, url, key, settings.generator_max_retries, settings.generator_timeout,
            "generator", "texts",
        )  # fmt: skip
        self.fingerprint = digest(
            "openai", without_credentials(url or "") or None, self.model,
            settings.generator_max_new_tokens, settings.generator_temperature,
            settings.generator_seed, draw,
        )  # fmt: skip

    def cost(self, prompts: Sequence[str]) -> str:
        """What writing about the prompts takes, in words."""
        most = len(prompts) * self.settings.generator_max_new_tokens
        return (
            f"{len(prompts):,} requests to '{self.model}': {sum(map(len, prompts)):,} characters "
            f"to read, at most {most:,} tokens to write"
        )

    def generate(self, prompts: Sequence[str]) -> list[str]:
        """One text per prompt.

        Raises:
            EncoderError: the endpoint fails after all retries, or answers with something else.
        """
        with ThreadPoolExecutor(self.settings.generator_concurrency) as pool:
            answers = list(pool.map(self._answer, prompts))
        self.tokens += sum(tokens for _, tokens in answers)
        return [text for text, _ in answers]

    def _answer(self, prompt: str) -> tuple[str, int]:
        try:
            return read_chat(self.endpoint.body(lambda: self._asked(prompt), _MAX_BYTES))
        except EncoderError as error:
            raise self.endpoint.failed(error) from error
        except Exception as error:  # whatever the client and its transport may raise
            raise self.endpoint.failed(f"{type(error).__name__}: {error}") from error

    def _asked(self, prompt: str) -> Any:
        own = self.settings
        return self.endpoint.client.chat.completions.with_streaming_response.create(
            model=self.model, messages=[{"role": "user", "content": prompt}],
            max_tokens=own.generator_max_new_tokens, temperature=own.generator_temperature,
            seed=own.generator_seed + self.draw,
        )  # fmt: skip


def read_chat(body: bytes) -> tuple[str, int]:
    """The text of an answer, and the tokens that it says it has; a refusal is an empty text.

    Raises:
        EncoderError: it is no such answer; in words that follow "the endpoint failed".
    """
    try:
        answer = json.loads(body)
        text = answer["choices"][0]["message"]["content"]
        usage = answer.get("usage") or {}
        tokens = usage.get("completion_tokens", 0)
    except (ValueError, KeyError, IndexError, TypeError, AttributeError, RecursionError):
        raise EncoderError("it answered with no text in choices[0].message.content") from None
    if text is not None and not isinstance(text, str):
        raise EncoderError("its text is no text")
    return text or "", tokens if isinstance(tokens, int) else 0
