"""OpenAI-compatible endpoints: the client, retries, and answers that are bounded and checked."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import parse_qsl, urlsplit

from recbole_llm.core.errors import one_line, optional_imports
from recbole_llm.core.log import show
from recbole_llm.core.secrets import without_credentials
from recbole_llm.features.encoders.answers import credentials
from recbole_llm.features.encoders.base import EncoderError
from recbole_llm.features.encoders.gate import Gate, retry_after_seconds

if TYPE_CHECKING:
    from openai import OpenAI

T = TypeVar("T")
_OPENAI = "https://api.openai.com/v1"
_NO_KEY = "none"  # self-hosted servers may require the header, with any value
_LONGEST_PAUSE = 8.0  # seconds between retries
_UNAUTHORIZED, _TOO_MANY = 401, 429
_REFUSALS = (400, 413, 422)  # HTTP: bad request, too large, unprocessable
_PASSING = (408, 409)  # temporary, like 500 and above: timeout, conflict


class RequestRefused(EncoderError):
    """The endpoint refuses a request, and would refuse it again."""

    said = ""  # the endpoint's message at full length


class AnswerTooLong(EncoderError):
    """An answer exceeds the limit of bytes."""


class RateLimited(EncoderError):
    """The endpoint accepted no request within the longest wait."""


def address(base_url: str | None) -> str | None:
    """The endpoint's address, from a config key or else OPENAI_BASE_URL; None: OpenAI's own."""
    return base_url or os.environ.get("OPENAI_BASE_URL") or None


def api_key(variable: str, base_url: str | None, prefix: str) -> str:
    """The API key in an environment variable; a self-hosted server needs none.

    Raises:
        EncoderError: OpenAI's own endpoint is to be used without a key.
    """
    key = os.environ.get(variable)
    if not key and base_url is None:
        raise EncoderError(
            f"the environment variable {variable} holds no API key; set it, or "
            f"{prefix}_base_url for a server that needs none"
        )
    return key or _NO_KEY


@dataclass(frozen=True)
class Endpoint:
    """An OpenAI-compatible endpoint, and how requests are sent to it."""

    model: str
    base_url: str | None  # None: OpenAI's
    key: str = field(repr=False)
    max_retries: int
    timeout: float  # seconds of a request
    prefix: str  # of the config keys, for messages
    kept: str  # what the cache keeps of an unfinished run, for messages
    gate: Gate = field(default_factory=Gate, compare=False)

    @property
    def where(self) -> str | None:
        """The address without credentials, normalized for fingerprints; None: OpenAI's."""
        bare = urlsplit(without_credentials(self.base_url or ""))
        host, path = bare.netloc.lower(), bare.path.rstrip("/")
        address = bare._replace(netloc=host, path=path).geturl()
        return None if address in ("", _OPENAI) else address

    @cached_property
    def client(self) -> OpenAI:
        """OpenAI's client."""
        with optional_imports("an endpoint", EncoderError):
            from openai import OpenAI
        # The client appends paths to the address as it is; a query (Azure's api-version, a
        # token) must follow them.
        address = urlsplit(self.base_url or "")
        return OpenAI(
            api_key=self.key,
            base_url=address._replace(query="", fragment="").geturl() or None,
            default_query=dict(parse_qsl(address.query, keep_blank_values=True)),
            max_retries=0,  # `answer` retries, with pauses for all requests
            timeout=self.timeout,
        )

    def answer(self, request: Callable[[], Any], longest: int, read: Callable[[bytes], T]) -> T:
        """Send a request and read its answer; a request that fails temporarily is repeated.

        Args:
            request: opens a streaming response of the client.
            longest: bytes that an answer may have.
            read: parses the answer's bytes, or raises EncoderError.

        Raises:
            RequestRefused: the endpoint refuses the request.
            RateLimited: it accepts no request for longer than all retries may last.
            EncoderError: it still fails after all retries, or its answer is invalid; in the latter
                case the class is that of the error that `read` raised.
        """
        since, failures = time.monotonic(), 0
        while True:
            began = self.gate.wait()
            try:
                answer = read(self._read(request, longest))
            except Exception as error:  # whatever the client and its transport may raise
                if _is_rate_limit(error):
                    self._pause_all(error, began, since)
                elif failures < self.max_retries and _is_temporary(error):
                    pause = retry_after_seconds(error) or min(0.5 * 2**failures, _LONGEST_PAUSE)
                    self.gate.sleep(min(pause, self.timeout))
                    failures += 1
                else:  # the client's own error may repeat credentials
                    raise self._as_encoder_error(error) from None
            else:
                self.gate.open(began)
                return answer

    def _pause_all(self, error: Exception, began: float, since: float) -> None:
        """Make all requests wait; RateLimited if the wait would be too long."""
        patience, first = self.max_retries * self.timeout, self.gate.until == 0
        if not self.gate.close(began, retry_after_seconds(error), since, patience):
            keys = f"{self.prefix}_max_retries x {self.prefix}_timeout"
            more = f"it would accept no request for longer than {keys}, {patience:g} s"
            raise RateLimited(self._failure(f"{type(error).__name__}: {error}", more)) from None
        if first:
            show(
                f"the endpoint '{self.where or 'OpenAI'}' accepts no requests for now (HTTP 429); "
                f"waiting each time it says so"
            )

    def _read(self, request: Callable[[], Any], longest: int) -> bytes:
        body = bytearray()
        with request() as response:
            end = time.monotonic() + self.timeout  # for this answer alone, without retries
            # The client's timeout is per read, so a server that trickles could go on forever.
            for chunk in response.iter_bytes():
                body += chunk
                if len(body) > longest:
                    raise AnswerTooLong(f"its answer is longer than {longest:,} bytes")
                if time.monotonic() > end:
                    raise TimeoutError(
                        f"its answer was not complete after {self.timeout:g} s "
                        f"({self.prefix}_timeout)"
                    )
        return bytes(body)

    def _as_encoder_error(self, error: Exception) -> EncoderError:
        if isinstance(error, EncoderError):
            return type(error)(self._failure(error))
        reason = f"{type(error).__name__}: {error}"
        status = getattr(error, "status_code", None)
        if status in _REFUSALS:
            refused = RequestRefused(self._describe(reason))
            refused.said = self._mask_secrets(reason)
            return refused
        if status == _UNAUTHORIZED and self.key == _NO_KEY:
            reason += f"; the variable that {self.prefix}_api_key_env names holds no API key"
        return EncoderError(self._failure(reason))

    def _failure(self, reason: object, more: str = "") -> str:
        return (
            f"{self._describe(reason)}{more and '; '}{more}; {self.kept} that arrived before are "
            f"cached, so run again once it answers"
        )

    def _describe(self, reason: object) -> str:
        """A message without credentials."""
        said = one_line(self._mask_secrets(str(reason)))
        return f"the endpoint '{self.where or 'OpenAI'}' failed for model '{self.model}' ({said})"

    def _mask_secrets(self, said: str) -> str:
        for secret in (self.key, *credentials(self.base_url or "")):
            if secret != _NO_KEY:
                said = said.replace(secret, "***")
        return said


def _is_rate_limit(error: Exception) -> bool:
    """Whether an error is a temporary rate limit, not an exhausted quota."""
    if getattr(error, "status_code", None) != _TOO_MANY:
        return False
    used_up = getattr(error, "code", None) == "insufficient_quota"
    return not used_up and _asks_to_retry(error) is not False


def _is_temporary(error: Exception) -> bool:
    """Whether a request may succeed when it is repeated."""
    if isinstance(error, EncoderError):
        return False
    from openai import APIConnectionError, OpenAIError

    status = getattr(error, "status_code", None)
    if status is None:  # the endpoint was not reached, or its answer broke off
        return isinstance(error, APIConnectionError) or not isinstance(error, OpenAIError)
    told = _asks_to_retry(error)
    return status in _PASSING or status >= 500 if told is None else told


def _asks_to_retry(error: Any) -> bool | None:
    """Whether an endpoint asks to repeat the request; None if it does not say."""
    return {"true": True, "false": False}.get(error.response.headers.get("x-should-retry"))
