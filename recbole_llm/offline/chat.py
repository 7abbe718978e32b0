"""Texts from endpoints that speak OpenAI's chat API."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from logging import getLogger
from typing import Any

from recbole_llm.core.digest import digest
from recbole_llm.core.lines import counted
from recbole_llm.core.log import SHOWN
from recbole_llm.features.encoders.answers import shown
from recbole_llm.features.encoders.base import EncoderError
from recbole_llm.features.encoders.endpoint import Endpoint, Refused, TooLong, address, api_key
from recbole_llm.offline.ask import Unfinished
from recbole_llm.offline.settings import GeneratorSettings

_MAX_BYTES = 1 << 20  # of an endpoint's answer
_ROUNDS = 4  # prompts for each request at once, between two commits


class _NoTextError(EncoderError):
    """An answer that is none of the chat API's, such as a gateway's page."""


class ChatGenerator:
    """Texts from an endpoint that speaks OpenAI's chat API; answers are bounded and checked. `draw`
    says which of several texts on the same prompt."""

    def __init__(self, settings: GeneratorSettings, draw: int) -> None:
        self.settings, self.draw, self.tokens = settings, draw, 0
        self.batch_size = _ROUNDS * settings.generator_concurrency
        self.answered = False  # a prompt, now or before
        if settings.generator_model is None:
            raise EncoderError("set generator_model to the model's name at the endpoint")
        url = address(settings.generator_base_url)
        key = api_key(settings.generator_api_key_env, url, "generator")
        self.model = settings.generator_model
        self.endpoint = Endpoint(
            self.model, url, key, settings.generator_max_retries, settings.generator_timeout,
            "generator", "texts",
        )  # fmt: skip
        self.fingerprint = digest(
            "openai", self.endpoint.where, self.model,
            settings.generator_max_new_tokens, settings.generator_temperature,
            settings.generator_seed, draw,
        )  # fmt: skip

    def cost(self, prompts: Sequence[str]) -> str:
        """What writing about the prompts takes, in words."""
        most = len(prompts) * self.settings.generator_max_new_tokens
        return (
            f"{counted(len(prompts), 'request')} to '{self.model}': {sum(map(len, prompts)):,} "
            f"characters to read, at most {most:,} tokens to write"
        )

    def generate(self, prompts: Sequence[str]) -> list[str]:
        """One text per prompt.

        Raises:
            Unfinished: the endpoint fails after all retries, answers with something else, or has
                refused all prompts so far; those that it refuses, or never answers with a text,
                beside others are empty texts. Or it was interrupted, which is its cause.
        """
        asked = self._ask(prompts)
        errors = {p: error for p, future in asked.items() if (error := future.exception())}
        answers = {p: future.result() for p, future in asked.items() if p not in errors}
        self.tokens += sum(tokens for _, tokens in answers.values())
        texts = {prompt: text for prompt, (text, _) in answers.items()}
        texts |= self._empty(errors, beside=bool(texts))
        if failed := [error for prompt, error in errors.items() if prompt not in texts]:
            raise Unfinished(failed[0], texts) from failed[0]
        return [texts[prompt] for prompt in prompts]

    def _ask(self, prompts: Sequence[str]) -> dict[str, Future[tuple[str, int]]]:
        """Each prompt's answer; Unfinished with those that arrived if it is interrupted."""
        with ThreadPoolExecutor(self.settings.generator_concurrency) as pool:
            asked = {prompt: pool.submit(self._answer, prompt) for prompt in prompts}
            try:
                wait(asked.values())
            except KeyboardInterrupt as stop:
                pool.shutdown(wait=False, cancel_futures=True)  # no further request begins
                under_way = sum(future.running() for future in asked.values())
                getLogger("recbole_llm").info(
                    f"interrupted; keeping the answers to {counted(under_way, 'request')} "
                    f"under way",
                    extra=SHOWN,
                )
                done = {p: f for p, f in asked.items() if not (f.cancelled() or f.exception())}
                raise Unfinished(stop, {p: f.result()[0] for p, f in done.items()}) from stop
        return asked

    def _empty(self, errors: Mapping[str, BaseException], beside: bool) -> dict[str, str]:
        """Empty texts of prompts that are refused, if others were answered: else the request is
        wrong; and of those whose answer is never usable, if others `beside` them were answered:
        else the endpoint is."""
        without = {
            prompt: error
            for prompt, error in errors.items()
            if (self.answered and isinstance(error, Refused))
            or (beside and isinstance(error.__cause__, (_NoTextError, TooLong)))
        }
        if without:
            getLogger("recbole_llm").warning(
                f"an empty text for {counted(len(without), 'prompt')}, refused or never answered "
                f"with a text: {next(iter(without.values()))}"
            )
        return dict.fromkeys(without, "")

    def _answer(self, prompt: str) -> tuple[str, int]:
        """Of an endpoint that has answered, an answer that is none is asked for again."""
        answer = self.endpoint.answer(
            lambda: self._asked(prompt),
            _MAX_BYTES,
            read_chat,
            again=lambda error: self.answered and isinstance(error, _NoTextError),
        )
        self.answered = True
        return answer

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
        usage = answer.get("usage")
        tokens = usage.get("completion_tokens") if isinstance(usage, dict) else 0
    except (ValueError, KeyError, IndexError, TypeError, AttributeError, RecursionError):
        raise _NoTextError(
            f"it answered with no text in choices[0].message.content: {shown(body)}"
        ) from None
    if text is not None and not isinstance(text, str):
        raise _NoTextError("its text is no text")
    return text or "", tokens if isinstance(tokens, int) else 0
