"""RecBole's own models where this package makes them faster, SASRec and GRU4Rec, trained at every
position at once, and LightGCN, evaluated through the faster product; and where it mends them, Pop,
RippleNet and KTUP."""

from __future__ import annotations

from collections.abc import Callable

from recbole_llm.core.plugins.registry import PROPERTIES, ModelSpec
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
    for name, what in (
        ("LightGCN", "evaluated through the faster product"),
        ("Pop", "which counts every training interaction"),
        ("RippleNet", "also for users without training interactions"),
        ("KTUP", "whose scores of a checkpoint stay the same"),
    ):
        module = f"recbole_llm.models.stock.{name.lower()}"
        register(ModelSpec(name, f"{module}:{name}", summary=f"RecBole's {name}, {what}"))
