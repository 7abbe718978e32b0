"""OpenAI-compatible endpoints: the client, retries, and answers that are bounded and checked."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import parse_qsl, urlsplit

from recbole_llm.core.errors import needing, one_line
from recbole_llm.core.secrets import without_credentials
from recbole_llm.features.encoders.answers import credentials
from recbole_llm.features.encoders.base import EncoderError

if TYPE_CHECKING:
    from openai import OpenAI

T = TypeVar("T")
_NO_KEY = "none"  # servers of one's own want a header, whatever is in it
_LONGEST_PAUSE = 8.0  # seconds between retries
_UNAUTHORIZED = 401
_REFUSALS = (400, 413, 422)  # HTTP: bad request, too large, unprocessable


class Refused(EncoderError):
    """The endpoint does not take a request, and would not if it were asked again."""


class TooLong(EncoderError):
    """An answer of more bytes than one may have."""


def address(base_url: str | None) -> str | None:
    """The endpoint's, from a config key or else the client's own variable; None: OpenAI's."""
    return base_url or os.environ.get("OPENAI_BASE_URL") or None


def api_key(variable: str, base_url: str | None, prefix: str) -> str:
    """The key in an environment variable; a server of one's own needs none.

    Raises:
        EncoderError: OpenAI's own endpoint is asked without a key.
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
    """An address that is asked for answers."""

    model: str
    base_url: str | None  # None: OpenAI's
    key: str = field(repr=False)
    max_retries: int  # the client does them itself until an answer begins
    timeout: float  # seconds of a request
    prefix: str  # of the config keys, for messages
    kept: str  # what the cache keeps of an unfinished run, for messages

    @property
    def where(self) -> str | None:
        """The address without credentials, for fingerprints; None: OpenAI's."""
        return without_credentials(self.base_url or "") or None

    @cached_property
    def client(self) -> OpenAI:
        """OpenAI's client."""
        with needing("an endpoint", EncoderError):
            from openai import OpenAI
        # The client appends paths to an address as it is; a query (Azure's api-version, a
        # token) belongs behind them.
        address = urlsplit(self.base_url or "")
        return OpenAI(
            api_key=self.key,
            base_url=address._replace(query="", fragment="").geturl() or None,
            default_query=dict(parse_qsl(address.query, keep_blank_values=True)),
            max_retries=self.max_retries,
            timeout=self.timeout,
        )

    def answer(
        self,
        request: Callable[[], Any],
        longest: int,
        read: Callable[[bytes], T],
        again: Callable[[Exception], bool] = lambda error: False,
    ) -> T:
        """What is read of the answer; one that breaks off is asked for again.

        Args:
            request: opens a streaming response of the client.
            longest: bytes that an answer may have.
            read: makes something of its bytes, or raises EncoderError.
            again: whether to ask again after an error of `read`.

        Raises:
            Refused: the endpoint does not take the request.
            EncoderError: it fails after all retries, or answers with something else.
        """
        attempt = 0
        while True:
            try:
                return read(self._read(request, longest))
            except Exception as error:  # whatever the client and its transport may raise
                if attempt == self.max_retries or not (_broke_off(error) or again(error)):
                    raise self._named(error) from error
            time.sleep(min(0.5 * 2**attempt, _LONGEST_PAUSE))
            attempt += 1

    def _read(self, request: Callable[[], Any], longest: int) -> bytes:
        body = bytearray()
        with request() as response:
            end = time.monotonic() + self.timeout  # of this answer, not of the client's retries
            # Each read has the client's timeout; a server that trickles would go on for ever.
            for chunk in response.iter_bytes():
                body += chunk
                if len(body) > longest:
                    raise TooLong(f"its answer is longer than {longest:,} bytes")
                if time.monotonic() > end:
                    raise TimeoutError(
                        f"its answer was not complete after {self.timeout:g} s "
                        f"({self.prefix}_timeout)"
                    )
        return bytes(body)

    def _named(self, error: Exception) -> EncoderError:
        if isinstance(error, EncoderError):
            return self._failed(error)
        reason = f"{type(error).__name__}: {error}"
        status = getattr(error, "status_code", None)
        if status == _UNAUTHORIZED and self.key == _NO_KEY:
            reason += f"; the variable that {self.prefix}_api_key_env names holds no API key"
        return Refused(self._said(reason)) if status in _REFUSALS else self._failed(reason)

    def _failed(self, reason: object) -> EncoderError:
        return EncoderError(
            f"{self._said(reason)}; {self.kept} that arrived before are cached, so run again once "
            f"it answers"
        )

    def _said(self, reason: object) -> str:
        """What went wrong, without credentials."""
        said = str(reason)
        for secret in (self.key, *credentials(self.base_url or "")):
            if secret != _NO_KEY:
                said = said.replace(secret, "***")
        where = self.where or "OpenAI"
        return f"the endpoint '{where}' failed for model '{self.model}' ({one_line(said)})"


def _broke_off(error: Exception) -> bool:
    """Whether an answer broke off half-way; before one begins, the client retries by itself."""
    if isinstance(error, EncoderError):
        return False
    from openai import OpenAIError

    return not isinstance(error, OpenAIError)
