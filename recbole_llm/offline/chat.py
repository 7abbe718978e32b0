"""Texts from endpoints that speak OpenAI's chat API."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from recbole_llm.core.digest import digest
from recbole_llm.core.lines import counted
from recbole_llm.features.encoders.answers import quote_answer
from recbole_llm.features.encoders.base import EncoderError
from recbole_llm.features.encoders.endpoint import Endpoint, Refused, TooLong, address, api_key
from recbole_llm.offline.asking import Answer, Asking
from recbole_llm.offline.settings import GeneratorSettings

_MAX_BYTES = 1 << 20  # of an endpoint's answer
_OLDER, _NEWER = "max_tokens", "max_completion_tokens"  # which some models of OpenAI's insist on


class _NoTextError(EncoderError):
    """An answer that is none of the chat API's, such as a gateway's page."""


class ChatGenerator:
    """Texts from an endpoint that speaks OpenAI's chat API; answers are bounded and checked. `draw`
    says which of several texts on the same prompt."""

    def __init__(self, settings: GeneratorSettings, draw: int) -> None:
        self.settings, self.draw, self.tokens = settings, draw, 0
        self.longest = _OLDER  # parameter with the length
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
        """One text per prompt."""
        texts: dict[str, str] = {}
        self.write(prompts, texts.update)
        return [texts[prompt] for prompt in prompts]

    def write(self, prompts: Sequence[str], keep: Callable[[Mapping[str, str]], None]) -> None:
        """Hand texts by prompt to `keep` as they come.

        Those on prompts that are refused, or never answered with a text, are empty if the endpoint
        answers another prompt after that.

        Raises:
            EncoderError: the endpoint fails after all retries, answers with something else, or
                refuses all from some prompt on.
        """

        def take(answers: Mapping[str, Answer]) -> None:
            self.tokens += sum(tokens for _, tokens in answers.values())
            keep({prompt: text for prompt, (text, _) in answers.items()})

        stopped = self.endpoint.gate.stopped
        stopped.clear()
        asking = Asking(self._answer, self._tries, self.settings.generator_concurrency)
        asking.run(prompts, take, stopped.set)

    def _tries(self, error: BaseException) -> int:
        """Requests that a prompt is worth: endpoints may bill what they refuse or cannot end."""
        if isinstance(error, _NoTextError):
            return 1 + max(1, self.settings.generator_max_retries)
        return 2 if isinstance(error, (Refused, TooLong)) else 0

    def _answer(self, prompt: str) -> Answer:
        longest = self.longest
        try:
            return self._ask(prompt, longest)
        except Refused as refused:
            if longest == _NEWER or _NEWER not in refused.said:
                raise
        answer = self._ask(prompt, _NEWER)
        self.longest = _NEWER
        return answer

    def _ask(self, prompt: str, longest: str) -> Answer:
        return self.endpoint.answer(lambda: self._asked(prompt, longest), _MAX_BYTES, read_chat)

    def _asked(self, prompt: str, longest: str) -> Any:
        """A streaming response of the client."""
        own = self.settings
        wanted: dict[str, Any] = {longest: own.generator_max_new_tokens}
        return self.endpoint.client.chat.completions.with_streaming_response.create(
            model=self.model, messages=[{"role": "user", "content": prompt}],
            temperature=own.generator_temperature, seed=own.generator_seed + self.draw, **wanted,
        )  # fmt: skip


def read_chat(body: bytes) -> Answer:
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
            f"it answered with no text in choices[0].message.content: {quote_answer(body)}"
        ) from None
    if text is not None and not isinstance(text, str):
        raise _NoTextError("its text is no text")
    return text or "", tokens if isinstance(tokens, int) else 0
