"""Endpoints that speak OpenAI's chat API."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from recbole_llm.core.digest import digest
from recbole_llm.core.lines import plural
from recbole_llm.features.encoders.answers import quote_answer
from recbole_llm.features.encoders.base import EncoderError
from recbole_llm.features.encoders.endpoint import (
    AnswerTooLong,
    Endpoint,
    RequestRefused,
    address,
    api_key,
)
from recbole_llm.offline.generators.base import Generator, Keep
from recbole_llm.offline.generators.endpoint_workers import Answer, WorkerRun
from recbole_llm.offline.settings import GeneratorSettings

_MAX_BYTES = 1 << 20  # of an endpoint's answer
_LENGTH_KEY = "max_tokens"
_NEWER_LENGTH_KEY = "max_completion_tokens"  # some of OpenAI's models insist on it


class _NoTextError(EncoderError):
    """The answer does not follow the chat API, such as an error page of a gateway."""


class ChatGenerator(Generator):
    """Texts from an endpoint, bounded and checked; each `draw` has its own seed."""

    def __init__(self, settings: GeneratorSettings, draw: int) -> None:
        self.settings, self.draw = settings, draw
        self.length_key = _LENGTH_KEY
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
        """Describe the requests, the characters to read and the tokens to write."""
        most = len(prompts) * self.settings.generator_max_new_tokens
        return (
            f"{plural(len(prompts), 'request')} to '{self.model}': {sum(map(len, prompts)):,} "
            f"characters to read, at most {most:,} tokens to write"
        )

    def generate(self, prompts: Sequence[str]) -> list[str]:
        """Return one text per prompt."""
        texts: dict[str, str] = {}
        self.write(prompts, texts.update)
        return [texts[prompt] for prompt in prompts]

    def write(self, prompts: Sequence[str], keep: Keep) -> None:
        """Pass {prompt: text} to `keep` as answers arrive.

        A prompt that is refused, or never answered with a text, gets an empty text if the endpoint
        answers another prompt after that.

        Raises:
            EncoderError: the endpoint still fails after all retries, gives invalid answers, or
                refuses every prompt from some point on.
        """

        def keep_texts(answers: Mapping[str, Answer]) -> None:
            self.tokens += sum(tokens for _, tokens in answers.values())
            keep({prompt: text for prompt, (text, _) in answers.items()})

        stopped = self.endpoint.gate.stopped
        stopped.clear()
        workers = self.settings.generator_concurrency
        run = WorkerRun(self._request, self._max_requests, workers)
        run.run(prompts, keep_texts, stopped.set)

    def _max_requests(self, error: BaseException) -> int:
        """Return how often a prompt with this error is sent: endpoints may bill each request."""
        if isinstance(error, _NoTextError):
            return 1 + max(1, self.settings.generator_max_retries)
        return 2 if isinstance(error, (RequestRefused, AnswerTooLong)) else 0

    def _request(self, prompt: str) -> Answer:
        """Send a prompt; with the newer length key if the endpoint requires it."""
        length_key = self.length_key
        try:
            return self._request_with(length_key, prompt)
        except RequestRefused as refused:
            if length_key == _NEWER_LENGTH_KEY or _NEWER_LENGTH_KEY not in refused.said:
                raise
        answer = self._request_with(_NEWER_LENGTH_KEY, prompt)
        self.length_key = _NEWER_LENGTH_KEY
        return answer

    def _request_with(self, length_key: str, prompt: str) -> Answer:
        return self.endpoint.answer(
            lambda: self._open_stream(length_key, prompt), _MAX_BYTES, read_chat
        )

    def _open_stream(self, length_key: str, prompt: str) -> Any:
        """Return the client's streaming response."""
        settings = self.settings
        length: dict[str, Any] = {length_key: settings.generator_max_new_tokens}
        return self.endpoint.client.chat.completions.with_streaming_response.create(
            model=self.model, messages=[{"role": "user", "content": prompt}],
            temperature=settings.generator_temperature,
            seed=settings.generator_seed + self.draw, **length,
        )  # fmt: skip


def read_chat(body: bytes) -> Answer:
    """Read an answer's text and its number of tokens; a refusal is an empty text.

    Raises:
        EncoderError: it is not an answer of the chat API; worded to follow "the endpoint failed".
    """
    try:
        answer = json.loads(body)
        text = answer["choices"][0]["message"]["content"]
        usage = answer.get("usage")
        tokens = usage.get("completion_tokens") if isinstance(usage, dict) else 0
    except (ValueError, KeyError, IndexError, TypeError, AttributeError, RecursionError):
        raise _NoTextError(
            f"it answered with no text in choices[0].message.content: {quote_answer(body)}"
        ) from None
    if text is not None and not isinstance(text, str):
        raise _NoTextError("its text is no text")
    return text or "", tokens if isinstance(tokens, int) else 0
