"""What stands under the table of a comparison."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import pytest

from recbole_llm.tasks.compare.summary import Spread, Summary
from recbole_llm.tasks.compare.tables import sentences


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
