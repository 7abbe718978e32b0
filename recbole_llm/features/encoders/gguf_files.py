"""Reading GGUF files, and unpacking one to a plain copy, which loads in a second."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch

from recbole_llm.core.errors import named_error
from recbole_llm.core.files import (
    file_lock,
    folder_written_whole,
    remove_left_parts,
    writable_folder,
)
from recbole_llm.core.log import show
from recbole_llm.features.encoders.base import NO_HUB_KERNELS, EncoderError

_WAY_OUT = "free space there, or set embedding_cache_dir to another folder"


def lacks_gguf_reader() -> bool:
    """Whether a package that reads GGUF is missing."""
    return any(find_spec(package) is None for package in ("gguf", "accelerate"))


def gguf_positions(path: Path) -> int | None:
    """Number of the model's positions; None if the file cannot be read."""
    from gguf import GGUFReader

    try:
        fields = GGUFReader(path).fields
        kind = fields["general.architecture"].contents()
        return int(fields[f"{kind}.context_length"].contents())
    except Exception:  # whatever a broken file raises; transformers reports it on loading
        return None


def _transformers_major() -> int:
    """The major version of transformers, such as 5 of 5.24.0."""
    import transformers

    return int(transformers.__version__.partition(".")[0])


def unpacking_options() -> dict[str, Any]:
    """Arguments that make transformers 5.24 and later dequantize a GGUF file. Otherwise they keep
    the weights packed if they can, and print a hint if they cannot."""
    import transformers

    kind: Any = getattr(transformers, "GgufConfig", None)
    return {} if kind is None else {"quantization_config": kind(dequantize=True)}


def unpack_gguf(file: Path, cache: Path) -> Path:
    """A folder in the cache's ``models/`` with the tokenizer and the weights in float32, made once.

    transformers parses a GGUF file again for each of tokenizer, configuration and weights, which
    takes half a minute for 135 M parameters. Each major version of transformers has its own copy,
    since an older version cannot read the tokenizers of a newer one.

    Raises:
        EncoderError: transformers cannot read the file.
        ValueError: there is no copy, and none can be written.
    """
    target = cache / "models" / f"{file.stem}.transformers-{_transformers_major()}"
    if target.is_dir():  # complete; the cache may be read-only
        return target
    with writable_folder(target.parent, _WAY_OUT), file_lock(f"{target}.lock", _wait):
        if not target.is_dir():
            remove_left_parts(target.parent)  # each as large as the copy
            show(f"Encoder: unpacking '{file.name}' once")
            with folder_written_whole(target, _WAY_OUT) as part:
                _write_unpacked(file, part)
    return target


def _wait() -> None:
    show("Encoder: waiting for another run that is unpacking the model")


def _write_unpacked(file: Path, folder: Path) -> None:
    import transformers
    from safetensors import SafetensorError

    where = {"gguf_file": file.name}
    try:
        tokenizer: Any = transformers.AutoTokenizer.from_pretrained(file.parent, **where)
        model: Any = transformers.AutoModelForCausalLM.from_pretrained(
            file.parent, dtype=torch.float32, **where, **unpacking_options(), **NO_HUB_KERNELS
        )
    except Exception as error:  # whatever a broken file, or an old gguf, makes the library raise
        raise EncoderError(
            f"'{file}' cannot be loaded by transformers ({named_error(error)})"
        ) from error
    tokenizer.save_pretrained(folder)
    try:
        model.save_pretrained(folder)
    except SafetensorError as error:  # such as on a full disk
        raise OSError(str(error)) from error
