"""Any endpoint that speaks OpenAI's embeddings API."""

from __future__ import annotations

import os
from collections.abc import Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from recbole_llm.features.digest import digest
from recbole_llm.features.encoders.base import Encoder, EncoderError
from recbole_llm.features.settings import count, flag, integer, text
from recbole_llm.features.table import Matrix

if TYPE_CHECKING:
    from openai import OpenAI

_KEY_VARIABLE = "OPENAI_API_KEY"
_NO_KEY = "none"  # servers of one's own want a header, whatever is in it


def create(config: Any) -> Encoder:
    """Factory of the encoder kind ``openai``.

    Raises:
        EncoderError: no model is named, or OpenAI's own endpoint is asked without a key.
    """
    model = text(config, "encoder_model")
    if model is None:
        raise EncoderError("set encoder_model to the model's name at the endpoint")
    base_url = text(config, "encoder_base_url")
    variable = text(config, "encoder_api_key_env") or _KEY_VARIABLE
    key = os.environ.get(variable)
    if not key and base_url is None:
        raise EncoderError(
            f"the environment variable {variable} holds no API key; set it, or encoder_base_url "
            f"for a server that needs none"
        )
    return OpenAIEncoder(
        model,
        base_url,
        key or _NO_KEY,
        dimensions=integer(config, "encoder_dimensions"),
        prefix=text(config, "encoder_prefix") or "",
        normalize=bool(flag(config, "encoder_normalize")),
        retries=count(config, "encoder_max_retries", 5),
        timeout=count(config, "encoder_timeout", 60),
        batch_size=count(config, "encoder_request_size", 128),
    )


class OpenAIEncoder:
    """Vectors from an endpoint.

    The fingerprint covers the address and the model's name; a server that changes the model
    behind a name cannot be noticed.

    Args:
        model: name at the endpoint.
        base_url: such as ``http://localhost:8000/v1``; None: OpenAI's.
        key: API key.
        dimensions: width to ask for; None: the model's.
        prefix: goes before every text.
        normalize: whether vectors are scaled to length 1.
        retries: of a failed request, by the client, with growing pauses.
        timeout: of a request, seconds.
        batch_size: texts of a request.
    """

    def __init__(
        self,
        model: str,
        base_url: str | None,
        key: str,
        dimensions: int | None = None,
        prefix: str = "",
        normalize: bool = False,
        retries: int = 5,
        timeout: int = 60,
        batch_size: int = 128,
    ) -> None:
        self.model, self.base_url, self._key = model, base_url, key
        self.dimensions, self.prefix, self.normalize = dimensions, prefix, normalize
        self.retries, self.timeout, self.batch_size = retries, timeout, batch_size
        self.fingerprint = digest("openai", base_url, model, dimensions, prefix, normalize)

    @cached_property
    def client(self) -> OpenAI:
        """OpenAI's client, which retries by itself."""
        from openai import OpenAI

        return OpenAI(
            api_key=self._key,
            base_url=self.base_url,
            max_retries=self.retries,
            timeout=self.timeout,
        )

    @cached_property
    def dimension(self) -> int:
        """D; unless it was asked for, one request finds it out."""
        return self.dimensions or int(self.encode(["width"]).shape[1])

    def encode(self, texts: Sequence[str]) -> Matrix:
        """Float32 [len(texts), D].

        Raises:
            EncoderError: the endpoint fails after all retries, or returns too few vectors.
        """
        parts = [
            self._request([f"{self.prefix}{t}" for t in texts[i : i + self.batch_size]])
            for i in range(0, len(texts), self.batch_size)
        ]
        vectors = np.concatenate(parts)
        if self.normalize:
            vectors /= np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
        return vectors

    def _request(self, texts: list[str]) -> Matrix:
        from openai import OpenAIError

        wanted: dict[str, Any] = {} if self.dimensions is None else {"dimensions": self.dimensions}
        try:
            answer = self.client.embeddings.create(
                model=self.model, input=texts, encoding_format="float", **wanted
            )
        except OpenAIError as error:
            raise EncoderError(
                f"the endpoint '{self.base_url or 'OpenAI'}' failed for model '{self.model}' "
                f"({type(error).__name__}: {error}); vectors that arrived before are cached, so "
                f"run again once it answers"
            ) from error
        rows = [item.embedding for item in sorted(answer.data, key=lambda item: item.index)]
        if len(rows) != len(texts):
            raise EncoderError(
                f"the endpoint '{self.base_url or 'OpenAI'}' returned {len(rows)} vectors for "
                f"{len(texts)} texts"
            )
        return np.asarray(rows, np.float32)
