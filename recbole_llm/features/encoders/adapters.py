"""Language models to be tuned with low-rank adapters, and encoders that were."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from torch import nn

from recbole_llm.core.digest import files_digest
from recbole_llm.core.errors import named_error, needing, one_line
from recbole_llm.core.files import expanded
from recbole_llm.features.encoders.base import EncoderError
from recbole_llm.features.encoders.decoders import Source

_FILES = ("adapter_config.json", "adapter_model.safetensors")


def tunable(source: Source) -> tuple[Any, Any]:
    """A model that writes, and its processor: of texts and pictures, or a tokenizer.

    Raises:
        EncoderError: transformers cannot read it.
    """
    sees = sees_pictures(source)
    model = source.model(torch.float32, _writer(sees))
    return model, source.part("AutoProcessor") if sees else source.tokenizer()


def sees_pictures(source: Source) -> bool:
    """Whether the model reads pictures beside texts."""
    return source.gguf is None and "vision_config" in source.config


def _writer(sees: bool) -> str:
    return "AutoModelForImageTextToText" if sees else "AutoModelForCausalLM"


def adapter_digest(folder: str | None, key: str = "encoder_adapter") -> str | None:
    """Digest of an adapter's files; None without one. `key` is the config key that names it.

    Raises:
        EncoderError: a file is missing, or it is no LoRA adapter.
    """
    if folder is None:
        return None
    path = expanded(folder)
    files = [path / name for name in _FILES]
    missing = [file.name for file in files if not file.is_file()]
    if missing:
        raise EncoderError(f"{key}: '{folder}' has no {' and no '.join(missing)}")
    try:
        kind = json.loads(files[0].read_text("utf-8")).get("peft_type")
    except (ValueError, AttributeError) as error:
        raise EncoderError(f"{key}: '{files[0]}' is damaged ({one_line(error)})") from error
    if kind != "LORA":
        raise EncoderError(f"{key}: '{folder}' is of kind {kind}, not LORA")
    return files_digest(path, files)


def with_adapter(source: Source, dtype: torch.dtype, folder: str | None) -> nn.Module:
    """An encoder's model, its adapter merged into the weights.

    Raises:
        EncoderError: it cannot be read, or the adapter is of another model.
    """
    if folder is None:
        return source.model(dtype)
    # Adapters name the parts of the model that writes, of which the encoder's is one.
    merged = adapted_writer(source, dtype, folder, "encoder_adapter", unread=("lm_head.",))
    return getattr(merged, merged.base_model_prefix)


def adapted_writer(
    source: Source, dtype: torch.dtype, folder: str, key: str, unread: tuple[str, ...] = ()
) -> Any:
    """A model that writes, with an adapter merged into its weights; `key` named the adapter, and
    weights whose names begin with `unread` may be missing.

    Raises:
        EncoderError: it cannot be read, or the adapter is of another model.
    """
    with needing(key, EncoderError):
        from peft import PeftModel
    writer: Any = source.model(dtype, _writer(sees_pictures(source)), unread)
    try:
        path = str(expanded(folder))
        adapted: Any = PeftModel.from_pretrained(writer, path)
        _check_complete(adapted, Path(path) / _FILES[1])
        return adapted.merge_and_unload()
    except Exception as error:  # whatever a file makes the library raise
        raise EncoderError(
            f"{key}: '{folder}' does not fit {source.path} ({named_error(error)})"
        ) from error


def _check_complete(model: nn.Module, file: Path) -> None:
    """peft leaves an adapter that names other parts of a model without effect."""
    from safetensors import safe_open

    with safe_open(file, "pt") as stored:
        names = set(stored.keys())
    own = {n.replace(".default.", ".") for n, _ in model.named_parameters() if ".lora_" in n}
    if names != own:
        raise ValueError(f"it names {len(names - own)} parts that the model does not have")
