"""Keys of results by group."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Literal

from pydantic import Field

from recbole_llm.core.marks import PartOfProtocol
from recbole_llm.core.metrics import by_kind
from recbole_llm.core.settings import ConfigLike, Natural, OneOrMore, Settings, split_to_list
from recbole_llm.hookspecs import hookimpl


class GroupSettings(Settings):
    """Results by group of users and items, for any model."""

    eval_groups: PartOfProtocol[
        Annotated[list[Literal["items", "users", "cold", "new"]], OneOrMore] | None
    ] = None
    """Groups to report in the test result: items (head, tail), users (head, tail), cold (cold and
    warm items), new (new items, without any training interaction, and seen items); None: no groups.
    The first two are those of the LLM-ESR paper, section 4."""
    eval_head_share: PartOfProtocol[Annotated[float, Field(gt=0, lt=1)]] = 0.2
    """Share of the items (or users) that is head: those with the most training interactions. The
    others are tail. LLM-ESR: 0.2."""
    eval_cold_threshold: PartOfProtocol[Natural] = 2
    """The most training interactions that a cold item can have; warm items have more."""

    def check(self, config: ConfigLike) -> None:
        """Check that groups have a metric of ranked lists or of labels."""
        from recbole.evaluator.register import metric_information

        if not self.eval_groups:
            return
        ranked, of_labels = by_kind(split_to_list(config["metrics"]))
        needs = [metric_information[metric.lower()] for metric in ranked]
        if not of_labels and ["rec.topk"] not in needs:
            raise ValueError("eval_groups: groups need a metric of ranked lists, such as NDCG")


@hookimpl
def register_settings(register: Callable[[str | type], None]) -> None:
    """Register the settings, which every run checks."""
    register(GroupSettings)


@hookimpl
def register_metrics(register: Callable[[str | type], None]) -> None:
    """Register Novelty, Serendipity and Diversity."""
    for metric in ("Novelty", "Serendipity", "Diversity"):
        register(f"recbole_llm.evaluation.beyond:{metric}")
