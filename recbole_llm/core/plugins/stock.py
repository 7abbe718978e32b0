"""RecBole's own models, which are known without a registration."""

from __future__ import annotations

import re
from functools import cache
from importlib.util import find_spec
from pathlib import Path

from recbole_llm.core.plugins.registry import ModelSpec


@cache
def recbole_models() -> dict[str, str]:
    """RecBole's own models: {name: module}, read from its files without importing them."""
    package = find_spec("recbole")
    assert package is not None and package.origin is not None
    found = {}
    for folder in sorted(Path(package.origin).parent.glob("model/*_recommender")):
        for file in sorted(folder.glob("[!_]*.py")):
            classes = re.findall(r"^class (\w+)\(", file.read_text(encoding="utf-8"), re.M)
            module = f"recbole.model.{folder.name}.{file.stem}"
            found.update({c: module for c in classes if c.lower() == file.stem})
    return found


def stock_spec(name: str) -> ModelSpec:
    """The spec of one of RecBole's own models, even if a registered model has its name."""
    return ModelSpec(name, f"{recbole_models()[name]}:{name}", summary="RecBole's own model")
