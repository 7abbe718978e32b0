"""The table of a comparison on the screen, and what stands under it."""

from __future__ import annotations

import re
from types import SimpleNamespace
from typing import Any, cast

import pytest

from recbole_llm.tasks.compare.summary import Row, Spread, Summary
from recbole_llm.tasks.compare.tables import screen, sentences


@pytest.mark.parametrize(
    ("p", "legend"), [(0.01, "† differs from A (p < 0.05)"), (0.2, "No number differs from A (p")]
)
def test_the_legend_is_of_the_marks_that_stand_there(p: float, legend: str) -> None:
    row = SimpleNamespace(label="A", seeds=[1], test={"mrr@10": Spread(0.1, None)})
    difference = SimpleNamespace(mean=0.1, low=0.0, high=0.2, users=(1, 1))
    test = SimpleNamespace(
        label="B", metric="mrr@10", difference=difference, p=p, significant=p < 0.05,
        left_out=0,
    )  # fmt: skip
    rows: Any = [row, SimpleNamespace(**{**vars(row), "label": "B"})]
    summary = Summary(rows, ["mrr@10"], set(), "A", "protocol", "data", cast("Any", [test]))
    means, said, *_ = sentences(summary)
    assert said.startswith(legend) and "over 1 seed;" in means


@pytest.mark.parametrize(
    ("columns", "shown"),
    [
        (40, ["model", "seeds", "mrr@10", "valid mrr@10", "time", "memory"]),
        (65, ["model", "seeds", "mrr@10", "ndcg@10", "valid mrr@10", "time", "memory"]),
        (200, ["model", "seeds", "mrr@10", "ndcg@10", "hit@10", "valid mrr@10", "time", "memory"]),
    ],
)
def test_a_narrow_terminal_has_fewer_metrics(
    monkeypatch: pytest.MonkeyPatch, columns: int, shown: list[str]
) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    metrics = ["mrr@10", "ndcg@10", "hit@10"]
    scores = dict.fromkeys(metrics, Spread(0.1, None))
    row = Row("SASRec", [], [1], scores, scores, 5.0, 100.0, 1.0, 1.0, [], [])
    head, _, said, *_ = screen(Summary([row], metrics, set(), "SASRec", "protocol", "data"))
    assert re.split(" {2,}", head) == shown
    left_out = [metric for metric in metrics if metric not in shown]
    assert said == f"{', '.join(left_out)}: in table.md, since this terminal is narrow" * bool(
        left_out
    )
