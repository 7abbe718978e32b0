"""Where a model's files are: a path, a package, or the hub."""

from __future__ import annotations

import json
from collections.abc import Sequence
from importlib.util import find_spec
from logging import getLogger
from pathlib import Path
from typing import Any

from recbole_llm.core.digest import file_digest
from recbole_llm.core.errors import extra_install_command, optional_imports
from recbole_llm.core.files import expanded
from recbole_llm.core.log import show
from recbole_llm.features.encoders.base import EncoderError

# Weights that transformers reads, and other frameworks' copies of them.
_WEIGHTS = ("*.safetensors", "*.bin", "*.gguf")
_UNUSED = ("*.onnx", "*.onnx_data", "onnx/*", "openvino/*", "*.h5", "*.msgpack", "*.ot", "*.tflite")


def local_path(name: str, key: str = "encoder_model") -> Path | None:
    """The file or folder called `name`, if there is one; `key` is the config key that named it.

    Raises:
        EncoderError: `name` can only be a path, and nothing is there.
    """
    path = expanded(name)
    if path.exists():
        return path
    if name.startswith((".", "/", "~", "\\")) or name.endswith(".gguf") or name.count("/") > 1:
        raise EncoderError(f"{key} '{name}' does not exist")
    return None


def hub_folder(
    name: str, revision: str | None, key: str = "encoder_model", needed: Sequence[str] = ()
) -> Path:
    """The folder of a hub model's files, which are downloaded if the hub's cache lacks them.

    Args:
        name, revision: of the model.
        key: the config key that named it.
        needed: files that a download by another library may have left out.

    Raises:
        EncoderError: the model is neither in the cache nor available from the hub.
    """
    cached = _find_cached_copy(name, revision)
    lacking = [file for file in needed if cached and not (cached / file).is_file()]
    if cached and not lacking:
        return cached
    from huggingface_hub import snapshot_download

    show(f"Encoder: fetching '{name}' from the hub")
    try:
        return Path(snapshot_download(name, revision=revision, ignore_patterns=list(_UNUSED)))
    except Exception as error:  # whatever the network, the hub or its client may raise
        if cached:
            getLogger("recbole_llm").warning(
                f"{key} '{name}': its copy in the hub's cache has no {lacking[0]}, and the hub, "
                f"which may have one, cannot be reached ({type(error).__name__}); the copy is used "
                f"as it is, with mean pooling unless its files say otherwise"
            )
            return cached
        bundled = key == "encoder_model"
        raise EncoderError(
            f"{key} '{name}' is not a local path, not in the hub's cache, and cannot be fetched "
            f"from the hub ({type(error).__name__}); set {key} to a local folder"
            + (
                f", or set encoder: bundled, for which {extra_install_command('offline')}"
                if bundled
                else ""
            )
        ) from error


def _find_cached_copy(name: str, revision: str | None) -> Path | None:
    """The folder in the hub's cache; None if there is none, or if an earlier download was cut off
    or fetched only the tokenizer."""
    with optional_imports("the hub", EncoderError):
        from huggingface_hub import snapshot_download
    try:
        folder = Path(snapshot_download(name, revision=revision, local_files_only=True))
        parts = {
            index.parent / part
            for index in folder.rglob("*.index.json")
            for part in json.loads(index.read_text("utf-8")).get("weight_map", {}).values()
        }
    except (OSError, ValueError):
        return None
    weights = any(next(folder.rglob(pattern), None) for pattern in _WEIGHTS)
    return folder if weights and all(part.is_file() for part in parts) else None


def find_in_package(module: str, file: str) -> Path | None:
    """Find a file of an installed package without importing it; None if it is not installed."""
    spec = find_spec(module)
    return None if spec is None or spec.origin is None else Path(spec.origin).parent / file


def require_pinned(file: Path, sha256: str, way_out: str) -> Path:
    """The file, checked against a pinned digest.

    Raises:
        EncoderError: the file is missing or differs; `way_out` says what to do.
    """
    actual = file_digest(file) if file.is_file() else "none: it is missing"
    if actual != sha256:
        raise EncoderError(
            f"'{file}' is not the pinned file: SHA-256 {actual}, expected {sha256}; {way_out}"
        )
    return file


def model_files(folder: Path, suffixes: tuple[str, ...]) -> list[Path]:
    """A folder's files with some suffixes, and PyTorch weights without safetensors beside them."""
    files = [file for file in folder.rglob("*") if file.is_file()]
    safe = {file.parent for file in files if file.suffix == ".safetensors"}
    weights = [file for file in files if file.suffix == ".bin" and file.parent not in safe]
    return [file for file in files if file.suffix in suffixes] + weights


def read_json(file: Path, *kinds: type) -> Any:
    """A JSON file's content, which must be a dict unless other `kinds` are named; a missing file
    gives an empty one.

    Raises:
        EncoderError: the file is damaged, or its content is of another kind.
    """
    kinds = kinds or (dict,)
    try:
        found = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else kinds[0]()
    except (ValueError, RecursionError) as error:
        raise EncoderError(f"'{file}' is damaged ({error})") from error
    if not isinstance(found, kinds):
        raise EncoderError(f"'{file}' is damaged (it holds no {kinds[0].__name__})")
    return found


def log_source(kind: str, name: str, source: str) -> None:
    """Log which copy of a model is used."""
    getLogger("recbole_llm").info("Encoder %s: '%s' from %s", kind, name, source)
