"""RecBole's own models that this package makes faster (SASRec and GRU4Rec, trained at every
position at once, LightGCN, evaluated by a faster matrix product, and DIN, whose attention leaves
out padding) or corrects (Pop, RippleNet and KTUP)."""

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
        ("LightGCN", "evaluated by a faster matrix product"),
        ("DIN", "whose attention leaves out padding"),
        ("Pop", "which counts every training interaction"),
        ("RippleNet", "also for users without training interactions"),
        ("KTUP", "whose scores of a checkpoint do not vary"),
    ):
        module = "din" if name == "DIN" else "corrected"
        place = f"recbole_llm.models.stock.{module}:{name}"
        register(ModelSpec(name, place, summary=f"RecBole's {name}, {what}"))
