"""Language models to tune with low-rank adapters, and encoders tuned in this way."""

from __future__ import annotations

from logging import getLogger
from pathlib import Path
from typing import Any

import torch
from torch import nn

from recbole_llm.core.digest import files_digest
from recbole_llm.core.errors import named_error, optional_imports
from recbole_llm.core.files import expanded
from recbole_llm.features.encoders.base import EncoderError
from recbole_llm.features.encoders.decoders import Source
from recbole_llm.features.encoders.locate import read_json

_FILES = ("adapter_config.json", "adapter_model.safetensors")


def load_tunable(source: Source) -> tuple[Any, Any]:
    """A generative model, and its tokenizer or its processor of texts and pictures.

    Raises:
        EncoderError: transformers cannot read them.
    """
    sees = sees_pictures(source)
    model = source.model(torch.float32, _writer_class(sees))
    return model, source.part("AutoProcessor") if sees else source.tokenizer()


def sees_pictures(source: Source) -> bool:
    """Whether the model reads pictures beside texts."""
    return source.gguf is None and "vision_config" in source.config


def _writer_class(sees: bool) -> str:
    return "AutoModelForImageTextToText" if sees else "AutoModelForCausalLM"


def adapter_digest(folder: str | None, key: str = "encoder_adapter") -> str | None:
    """Digest of an adapter's files; None without a folder. `key` is the config key that names it.

    Raises:
        EncoderError: a file is missing, or the adapter is no LoRA adapter.
    """
    if folder is None:
        return None
    path = expanded(folder)
    files = [path / name for name in _FILES]
    missing = [file.name for file in files if not file.is_file()]
    if missing:
        raise EncoderError(f"{key}: '{folder}' has no {' and no '.join(missing)}")
    if (kind := read_json(files[0]).get("peft_type")) != "LORA":
        raise EncoderError(f"{key}: '{folder}' is of kind {kind}, not LORA")
    return files_digest(path, files)


def with_adapter(source: Source, dtype: torch.dtype, folder: str | None) -> nn.Module:
    """An encoder's model, with its adapter, if any, merged into the weights.

    Raises:
        EncoderError: a file cannot be read, or the adapter belongs to another model.
    """
    if folder is None:
        return source.model(dtype)
    key = "encoder_adapter"
    if read_json(expanded(folder) / _FILES[0]).get("task_type") == "FEATURE_EXTRACTION":
        merged: nn.Module = _merge_adapter(source.model(dtype), source, folder, key)
        return merged
    # Other adapters name the parts of the generative model, of which the encoder's is one.
    writer = load_adapted_writer(source, dtype, folder, key, unread=("lm_head.",))
    return getattr(writer, writer.base_model_prefix)


def load_adapted_writer(
    source: Source, dtype: torch.dtype, folder: str, key: str, unread: tuple[str, ...] = ()
) -> Any:
    """A generative model with an adapter merged into its weights. `key` is the config key that
    named the adapter; weights whose names begin with `unread` may be missing.

    Raises:
        EncoderError: a file cannot be read, or the adapter belongs to another model.
    """
    return _merge_adapter(
        source.model(dtype, _writer_class(sees_pictures(source)), unread), source, folder, key
    )


def _merge_adapter(model: Any, source: Source, folder: str, key: str) -> Any:
    with optional_imports(key, EncoderError):
        from peft import PeftModel
    path = expanded(folder)
    _warn_of_other_model(source, path, key)
    try:
        adapted: Any = PeftModel.from_pretrained(model, str(path))
        _check_complete(adapted, path / _FILES[1])
        return adapted.merge_and_unload()
    except Exception as error:  # whatever a file makes the library raise
        raise EncoderError(
            f"{key}: '{folder}' does not fit {source.path} ({named_error(error)})"
        ) from error


def _warn_of_other_model(source: Source, folder: Path, key: str) -> None:
    """Warn if an adapter was made for another model, since its names and shapes may still fit."""
    base = read_json(folder / _FILES[0]).get("base_model_name_or_path")
    if not base or source.gguf:  # a GGUF file and its copy have other names
        return
    made_for, put_on = _model_name(Path(base)), _model_name(source.folder)
    if made_for != put_on:
        getLogger("recbole_llm").warning(
            "%s: '%s' was made for the model %s but is applied to %s", key, folder, made_for, put_on
        )


def _model_name(path: Path) -> str:
    """The last part of a model's name, also for a path in the hub's cache."""
    if path.parent.name == "snapshots":  # models--meta-llama--Llama-3.2-1B/snapshots/…
        path = path.parent.parent
    return path.name.rpartition("--")[2]


def _check_complete(model: Any, file: Path) -> None:
    """Refuse an adapter for other parts of a model, which peft would silently ignore."""
    from peft import get_peft_model_state_dict
    from safetensors import safe_open

    with safe_open(file, "pt") as stored:
        names = set(stored.keys())
    own = get_peft_model_state_dict(model, save_embedding_layers=False).keys()
    # The file of an adapter of embeddings also holds the embeddings themselves.
    if strange := names - own - model.state_dict().keys():
        raise ValueError(f"it names {len(strange)} parts that the model does not have")
    if lacking := own - names:
        raise ValueError(f"it lacks weights of {len(lacking)} parts")
