"""RecBole's own models that this package makes faster (SASRec and GRU4Rec, trained at every
position at once, and LightGCN, evaluated by a faster matrix product) or corrects (Pop, RippleNet
and KTUP)."""

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
        ("Pop", "which counts every training interaction"),
        ("RippleNet", "also for users without training interactions"),
        ("KTUP", "whose scores of a checkpoint do not vary"),
    ):
        place = f"recbole_llm.models.stock.corrected:{name}"
        register(ModelSpec(name, place, summary=f"RecBole's {name}, {what}"))
