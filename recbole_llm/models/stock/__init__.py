"""RecBole's SASRec and GRU4Rec, trained at every position at once."""

from __future__ import annotations

from collections.abc import Callable

from recbole_llm.core.registry import PROPERTIES, ModelSpec
from recbole_llm.hookspecs import hookimpl


@hookimpl
def register_models(register: Callable[[ModelSpec], None]) -> None:
    for name in ("SASRec", "GRU4Rec"):
        register(
            ModelSpec(
                name,
                f"recbole_llm.models.stock.{name.lower()}:{name}",
                settings=f"recbole_llm.models.stock.settings:{name}Settings",
                config=PROPERTIES / "model" / f"{name}.yaml",
                summary=f"RecBole's {name}, trained at every position at once",
            )
        )
