"""Any endpoint that speaks OpenAI's embeddings API."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from recbole_llm.core.digest import digest
from recbole_llm.core.lines import plural
from recbole_llm.core.settings import ConfigLike
from recbole_llm.features.encoders.answers import read_answer
from recbole_llm.features.encoders.base import Encoder, EncoderError
from recbole_llm.features.encoders.endpoint import Endpoint, RequestRefused, address, api_key
from recbole_llm.features.encoders.settings import EndpointSettings
from recbole_llm.features.settings import EncoderSettings
from recbole_llm.features.tables.table import Matrix

_MAX_BYTES = 1 << 20  # of an answer per text, and as many again for the rest
_SHOWN = 60  # characters of a text in a message


def create(config: ConfigLike) -> Encoder:
    """Factory of the encoder kind ``openai``.

    Raises:
        EncoderError: no model is named, or OpenAI's own endpoint is to be used without a key.
    """
    own = EndpointSettings.of(config).model_copy(update=getattr(config, "secrets", None))
    return OpenAIEncoder(EncoderSettings.of(config), own)


class OpenAIEncoder:
    """Vectors from an endpoint, each answer checked before any of it is used.

    The fingerprint covers the address and the model's name; if a server changes the model behind
    a name, this is noticed only if the width changes, too.
    """

    def __init__(self, settings: EncoderSettings, own: EndpointSettings) -> None:
        if settings.encoder_model is None:
            raise EncoderError("set encoder_model to the model's name at the endpoint")
        self.model, self.settings = settings.encoder_model, settings
        url = address(own.encoder_base_url)
        key = api_key(own.encoder_api_key_env, url, "encoder")
        self.endpoint = Endpoint(
            self.model, url, key, own.encoder_max_retries, own.encoder_timeout,
            "encoder", "vectors",
        )  # fmt: skip
        self.request_size = own.encoder_request_size
        self._width = settings.encoder_dimensions
        self.fingerprint = digest(
            "openai", self.endpoint.where, self.model, settings.encoder_dimensions,
            settings.encoder_prefix or "", bool(settings.encoder_normalize),
        )  # fmt: skip

    def encode(self, texts: Sequence[str]) -> Matrix:
        """Float32 [len(texts), D]; a row is not finite if the endpoint gave no usable vector.

        Raises:
            RequestRefused: the endpoint refuses the texts, for example if one is too long.
            EncoderError: the endpoint fails after all retries, or its answer is invalid.
        """
        size, prefix = self.request_size, self.settings.encoder_prefix or ""
        parts = [
            self._encode_request([f"{prefix}{t}" for t in texts[i : i + size]])
            for i in range(0, len(texts), size)
        ]
        vectors = np.concatenate(parts) if parts else np.zeros((0, self._width or 0), np.float32)
        if self.settings.encoder_normalize:
            vectors /= np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
        return vectors

    def _encode_request(self, texts: list[str]) -> Matrix:
        try:
            vectors = self.endpoint.answer(
                lambda: self._open_response(texts),
                _MAX_BYTES * (len(texts) + 1),
                lambda body: read_answer(body, len(texts), self._width),
            )
        except RequestRefused as error:
            longest = max(texts, key=len)
            raise RequestRefused(
                f"{error}; it was sent {plural(len(texts), 'text')}, the longest of "
                f"{len(longest):,} characters ({longest[:_SHOWN]!r}): if that is too much, "
                f"lower encoder_request_size, or make the texts shorter (item_prompt, "
                f"user_prompt_max_items)"
            ) from error
        self._width = vectors.shape[1]
        return vectors

    def _open_response(self, texts: list[str]) -> Any:
        """A streaming response of the client."""
        wanted: dict[str, Any] = {}
        if self.settings.encoder_dimensions is not None:
            wanted["dimensions"] = self.settings.encoder_dimensions
        return self.endpoint.client.embeddings.with_streaming_response.create(
            model=self.model, input=texts, encoding_format="float", **wanted
        )
