"""Settings of single kinds of encoder; this module stays cheap to import."""

from __future__ import annotations

from typing import Annotated, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator

from recbole_llm.core.marks import AskOnLoad, Local, NoEffectOnResults
from recbole_llm.core.settings import Count, FieldName, Natural, Positive, Settings, Text


def _address(value: str) -> str:
    """Check an endpoint's address; the error does not repeat it, since it may hold credentials."""
    try:
        parts = urlsplit(value)
        known = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
    except ValueError:  # a port that is no number
        known = False
    if not known:
        raise ValueError("expected an address such as http://localhost:8000/v1")
    return value


Address = Annotated[Text, AfterValidator(_address)]


class AdapterSettings(Settings):
    """Keys of the encoders whose model a stage can tune."""

    encoder_adapter: Local[AskOnLoad[Text | None]] = None
    """causal_lm, multimodal: folder of a low-rank adapter (LoRA) that is merged into the model,
    such as the result of a stage that tunes it."""


class CausalLMSettings(AdapterSettings):
    """encoder: causal_lm."""

    encoder_pooling: Literal["mean", "last_token"] = "mean"
    """causal_lm: a text's vector is the mean of its tokens' states, or the state of the last
    token."""

    encoder_layer: int = -1
    """causal_lm: layer whose hidden states are used: 0 the embeddings, k the output of block k,
    -1 that of the last block after the final norm."""


class MultimodalSettings(AdapterSettings):
    """encoder: multimodal."""

    encoder_fusion: Literal["concatenate", "average"] = "concatenate"
    """multimodal: how a dual encoder (CLIP, SigLIP) joins the vectors of a text and a picture."""

    encoder_token: FieldName | None = None
    """multimodal: token of a chat model's tokenizer that is put at the end of the message and whose
    state is the vector; None: the message's last token."""


class EndpointSettings(Settings):
    """encoder: openai."""

    encoder_base_url: Local[AskOnLoad[Address | None]] = None
    """openai: address of the endpoint, such as http://localhost:8000/v1; None: the environment
    variable OPENAI_BASE_URL, or else OpenAI's own endpoint."""

    encoder_api_key_env: Local[AskOnLoad[NoEffectOnResults[FieldName]]] = "OPENAI_API_KEY"
    """openai: environment variable that holds the API key."""

    encoder_request_size: NoEffectOnResults[Count] = 128
    """openai: texts per request."""

    encoder_max_retries: NoEffectOnResults[Natural] = 5
    """openai: retries of a failed request, after growing pauses or the pauses that the endpoint
    asks for. While it accepts no requests (HTTP 429), the run waits for at most this many times
    encoder_timeout."""

    encoder_timeout: NoEffectOnResults[Positive] = 60
    """openai: seconds a request may take."""


class PrecomputedSettings(Settings):
    """encoder: precomputed."""

    embedding_path: Local[AskOnLoad[Text | None]] = None
    """precomputed: file of item vectors (.npy with .tokens, .npz, .safetensors, .parquet, .csv,
    .pt, or atomic), here or in the data set's folder."""

    user_embedding_path: Local[AskOnLoad[Text | None]] = None
    """precomputed: file of user vectors."""
