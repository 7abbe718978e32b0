"""Any endpoint that speaks OpenAI's embeddings API."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from recbole_llm.core.errors import one_line
from recbole_llm.core.secrets import without_credentials
from recbole_llm.core.settings import ConfigLike
from recbole_llm.features.digest import digest
from recbole_llm.features.encoders.answers import credentials, read_answer
from recbole_llm.features.encoders.base import Encoder, EncoderError
from recbole_llm.features.settings import EncoderSettings, EndpointSettings
from recbole_llm.features.table import Matrix

if TYPE_CHECKING:
    from openai import OpenAI

_NO_KEY = "none"  # servers of one's own want a header, whatever is in it
_MAX_BYTES = 1 << 20  # of an answer, per text, and as many for the rest
_LONGEST_PAUSE = 8.0  # seconds between retries


def create(config: ConfigLike) -> Encoder:
    """Factory of the encoder kind ``openai``.

    Raises:
        EncoderError: no model is named, or OpenAI's own endpoint is asked without a key.
    """
    settings, own = EncoderSettings.of(config), EndpointSettings.of(config)
    own = own.model_copy(update=getattr(config, "secrets", None))
    if settings.encoder_model is None:
        raise EncoderError("set encoder_model to the model's name at the endpoint")
    key = os.environ.get(own.encoder_api_key_env)
    if not key and own.encoder_base_url is None:
        raise EncoderError(
            f"the environment variable {own.encoder_api_key_env} holds no API key; set it, or "
            f"encoder_base_url for a server that needs none"
        )
    return OpenAIEncoder(settings.encoder_model, settings, own, key or _NO_KEY)


class OpenAIEncoder:
    """Vectors from an endpoint, each answer checked before any of it is used.

    The fingerprint covers the address and the model's name; a server that changes the model
    behind a name is noticed only where the width changes.

    Args:
        model: name at the endpoint.
        settings: width to ask for, prefix, normalisation.
        own: address, retries, timeout, texts of a request.
        key: API key.
    """

    def __init__(
        self, model: str, settings: EncoderSettings, own: EndpointSettings, key: str
    ) -> None:
        self.model, self.settings, self.own, self._key = model, settings, own, key
        self.request_size = own.encoder_request_size
        self._width = settings.encoder_dimensions
        self.fingerprint = digest(
            "openai", without_credentials(own.encoder_base_url or "") or None, model,
            settings.encoder_dimensions,
            settings.encoder_prefix or "", bool(settings.encoder_normalize),
        )  # fmt: skip

    @cached_property
    def client(self) -> OpenAI:
        """OpenAI's client, which retries by itself until an answer begins."""
        from openai import OpenAI

        return OpenAI(
            api_key=self._key,
            base_url=self.own.encoder_base_url,
            max_retries=self.own.encoder_max_retries,
            timeout=self.own.encoder_timeout,
        )

    @cached_property
    def dimension(self) -> int:
        """D; unless it was asked for, one request finds it out."""
        return self.settings.encoder_dimensions or int(self.encode(["width"]).shape[1])

    def encode(self, texts: Sequence[str]) -> Matrix:
        """Float32 [len(texts), D]; a row is not finite where the endpoint gave no usable vector.

        Raises:
            EncoderError: the endpoint fails after all retries, or answers with something else.
        """
        size, prefix = self.request_size, self.settings.encoder_prefix or ""
        parts = [
            self._request([f"{prefix}{t}" for t in texts[i : i + size]])
            for i in range(0, len(texts), size)
        ]
        vectors = np.concatenate(parts) if parts else np.zeros((0, self._width or 0), np.float32)
        if self.settings.encoder_normalize:
            vectors /= np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
        return vectors

    def _request(self, texts: list[str]) -> Matrix:
        try:
            body = self._body(texts)
            vectors = read_answer(body, len(texts), self._width)
        except EncoderError as error:
            raise self._failed(error) from error
        except Exception as error:  # whatever the client and its transport may raise
            raise self._failed(f"{type(error).__name__}: {error}") from error
        self._width = vectors.shape[1]
        return vectors

    def _body(self, texts: list[str]) -> bytes:
        """The answer's bytes; an answer that breaks off is asked for again."""
        from openai import OpenAIError

        for attempt in range(self.own.encoder_max_retries + 1):
            try:
                return self._read(texts)
            except (EncoderError, OpenAIError):  # the client has done its own retries
                raise
            except Exception:
                if attempt == self.own.encoder_max_retries:
                    raise
                time.sleep(min(0.5 * 2**attempt, _LONGEST_PAUSE))
        raise AssertionError("unreachable")

    def _read(self, texts: list[str]) -> bytes:
        wanted: dict[str, Any] = {}
        if self.settings.encoder_dimensions is not None:
            wanted["dimensions"] = self.settings.encoder_dimensions
        end = time.monotonic() + self.own.encoder_timeout
        longest = _MAX_BYTES * (len(texts) + 1)
        body = bytearray()
        with self.client.embeddings.with_streaming_response.create(
            model=self.model, input=texts, encoding_format="float", **wanted
        ) as response:
            # Each read has the client's timeout; a server that trickles would go on for ever.
            for chunk in response.iter_bytes():
                body += chunk
                if len(body) > longest:
                    raise EncoderError(f"its answer is longer than {longest:,} bytes")
                if time.monotonic() > end:
                    raise EncoderError(
                        f"its answer was not complete after {self.own.encoder_timeout:g} s "
                        f"(encoder_timeout)"
                    )
        return bytes(body)

    def _failed(self, reason: object) -> EncoderError:
        url = self.own.encoder_base_url or "OpenAI"
        said, where = str(reason), without_credentials(url)
        for secret in (self._key, *credentials(url)):
            said = said.replace(secret, "***")
        return EncoderError(
            f"the endpoint '{where}' failed for model '{self.model}' ({one_line(said)}); "
            f"vectors that arrived before are cached, so run again once it answers"
        )
