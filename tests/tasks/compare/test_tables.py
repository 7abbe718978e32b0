"""The tables of a comparison on the screen and in files, with their notes and figures."""

from __future__ import annotations

import math
import re
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from recbole_llm.tasks.compare.figures import summary_figures
from recbole_llm.tasks.compare.significance import Difference, PairedTest
from recbole_llm.tasks.compare.summary import Row, Spread, Summary, describe_rows
from recbole_llm.tasks.compare.tables import (
    format_spread,
    latex_lines,
    markdown_lines,
    screen_lines,
    sentences,
    write_tables,
)


@pytest.mark.parametrize(
    ("p", "legend"), [(0.01, "† differs from A (p < 0.05)"), (0.2, "No number differs from A (p")]
)
def test_the_legend_is_of_the_marks_that_stand_there(p: float, legend: str) -> None:
    row = SimpleNamespace(label="A", seeds=[1], test={"mrr@10": Spread(0.1, None)})
    difference = SimpleNamespace(mean=0.1, low=0.0, high=0.2, users=(1, 1))
    test = SimpleNamespace(
        label="B", metric="mrr@10", difference=difference, baseline=0.4, p=p, seeds=1,
        significant=p < 0.05, left_out=0,
    )  # fmt: skip
    rows: Any = [row, SimpleNamespace(**{**vars(row), "label": "B"})]
    summary = Summary(rows, ["mrr@10"], set(), "A", "protocol", "data", cast("Any", [test]))
    means, said, against, *_ = sentences(summary)
    assert said.startswith(legend) and "over 1 seed;" in means
    assert "+0.1000 (+25.0 %)" in against  # over users that both were tested on


def test_models_that_read_other_rows_are_named() -> None:
    def row(label: str, users: int, items: int) -> Any:
        size = {"users": users, "items": items, "interactions": 9}
        return SimpleNamespace(label=label, runs=[{"data": {"size": size}, "repeats": None}])

    (said,) = describe_rows([row("A", 1000, 5), row("B", 1000, 5), row("C", 999, 4)], [])
    assert said.startswith("C has 999 users, 4 items, A 1,000 users, 5 items: filters, or missing")


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
    head, _, said, *_ = screen_lines(Summary([row], metrics, set(), "SASRec", "protocol", "data"))
    assert re.split(" {2,}", head) == shown
    left_out = [metric for metric in metrics if metric not in shown]
    assert said == f"{', '.join(left_out)}: in table.md, since this terminal is narrow" * bool(
        left_out
    )


def summary_of(means: dict[str, float], **more: Any) -> Summary:
    rows = [
        Row(label, [], [1], {"mrr@10": Spread(mean, None)}, {"mrr@10": Spread(mean, None)},
            5.0, 100.0, 1.0, 1.0, [{"trainings": []}], [])
        for label, mean in means.items()
    ]  # fmt: skip
    return Summary(rows, ["mrr@10"], set(), rows[0].label, "protocol", "data", **more)


def test_equal_means_are_marked_alike() -> None:
    _, _, *rows = markdown_lines(summary_of({"a": 0.1, "b": 0.3, "c": 0.3, "d": 0.2}))
    assert [row.split(" | ")[2] for row in rows] == [".1000", "**.3000**", "**.3000**",
                                                     "<u>.2000</u>"]  # fmt: skip


def test_a_metric_of_which_no_end_is_better_has_no_best() -> None:
    found = summary_of({"a": 0.1, "b": 0.3})
    rows = [replace(row, test={"shannonentropy@10": row.test["mrr@10"]}) for row in found.rows]
    _, _, *rows_shown = markdown_lines(replace(found, rows=rows, metrics=["shannonentropy@10"]))
    assert [row.split(" | ")[2] for row in rows_shown] == [".1000", ".3000"]


@pytest.mark.parametrize(
    ("label", "in_markdown"),
    [
        ("<script>alert(1)</script>", "&lt;script&gt;alert(1)&lt;/script&gt;"),
        ("*x* [y](z) `_q_` a|b", r"\*x\* \[y\](z) \`\_q\_\` a\|b"),
        ("SASRec --item_init=llm", "SASRec --item_init=llm"),
        ("&lt; p < 1 & 2", "&amp;lt; p < 1 & 2"),
    ],
)
def test_markdown_has_labels_as_they_are(label: str, in_markdown: str) -> None:
    write_tables(summary_of({label: 0.1}, failures={f"{label}, seed 1": "so"}), Path())
    table = Path("table.md").read_text("utf-8")
    assert f"| {in_markdown} | 1 | " in table
    assert f"\n- {in_markdown}, seed 1 failed: so\n" in table


def test_latex_has_labels_as_they_are() -> None:
    rows = list(latex_lines(summary_of({"a --b=<c>|d †---": 0.1})))
    assert rows[5] == r"a -{}-b=\textless{}c\textgreater{}\textbar{}d \dag{}-{}-{}- & .1000 \\"


def test_a_label_is_no_argument_of_the_line_before() -> None:
    rows = list(latex_lines(summary_of({"[1] x": 0.1, "*x": 0.2})))
    assert [row.partition(" &")[0] for row in rows[5:7]] == ["{}[1] x", "{}*x"]


def test_a_metric_without_a_value_in_one_seed_has_none() -> None:
    spread = Spread.of([0.1, math.nan])
    assert math.isnan(spread.mean) and format_spread(spread, " ± ") == "-"
    assert Spread.of([0.1, 0.3]) == Spread(pytest.approx(0.2), pytest.approx(0.02**0.5))
    summary = summary_of({"a": 0.1, "b": math.nan})
    assert [row.split(" | ")[2] for row in markdown_lines(summary)][2:] == ["**.1000**", "-"]


def test_metrics_without_a_value_are_named_with_the_place_of_the_reason() -> None:
    summary = summary_of({"a": 0.1, "b": math.nan, "c": math.nan})
    run = {"data": {"size": {"users": 9}}, "repeats": "Items repeat."}
    rows = [replace(row, folders=[f"cells/{row.label}-1"], runs=[run]) for row in summary.rows]
    assert describe_rows(rows, ["mrr@10"]) == [
        "mrr@10 has no value for b, c: a warning in cells/b-1/output.txt says why",
        "Items repeat.",
    ]
    assert describe_rows(rows[:1], ["mrr@10"]) == ["Items repeat."]


def test_seeds_that_one_model_lacks_are_told() -> None:
    summary = summary_of({"A": 0.4, "B": 0.5, "C": 0.6})
    summary.rows = [
        replace(row, seeds=seeds) for row, seeds in zip(summary.rows, ([1, 2], [2], [3]))
    ]
    difference = Difference(0.1, 0.0, 0.2, 0.01, (3, 3))
    summary.tests = [PairedTest("B", "mrr@10", difference, 0.4, 0.01, 1)]
    text = " ".join(sentences(summary))
    assert "Means over up to 2 seeds" in text
    assert "B against A, mrr@10: +0.1000 (+25.0 %)" in text
    assert "This is over the 1 seed that ended well with both." in text
    assert "C is not tested: no seed ended well with both it and A" in text


def test_without_a_tested_difference_there_is_no_figure_of_it() -> None:
    summary = summary_of({"A": 0.4, "B": 0.5})
    difference = Difference(0.1, 0.0, 0.2, 0.01, (3, 3))
    summary.tests = [PairedTest("B", "hit@10", difference, 0.4, 0.01, 1)]
    titles = [figure["title"] for figure in summary_figures(summary)]
    assert not any("difference" in title for title in titles)
    summary.tests = [PairedTest("B", "mrr@10", difference, 0.4, 0.01, 1)]
    assert any("difference" in figure["title"] for figure in summary_figures(summary))


def test_figures_have_labels_as_they_are() -> None:
    summary = summary_of({"<b>x</b> & y": 0.1})
    bars, cost = summary_figures(summary)
    assert bars["data"][0]["y"] == ["&lt;b&gt;x&lt;/b&gt; &amp; y"]
    assert cost["data"][0]["name"] == "&lt;b&gt;x&lt;/b&gt; &amp; y"


def test_figures_have_room_for_labels_of_many_words() -> None:
    label = "SASRec " + " ".join(f"--hidden_dropout_prob=0.{i}" for i in range(9))
    bars, cost = summary_figures(summary_of({label: 0.1, f"{label} --epochs=2": 0.2, "Pop": 0.3}))
    beside, below = bars["data"][0]["y"], [trace["name"] for trace in cost["data"]]
    for names, width in ((beside, 16), (below, 44)):
        assert all(len(line) <= width for name in names for line in name.split("<br>"))
    rows = max(name.count("<br>") + 1 for name in beside)
    assert bars["height"] >= 3 * rows * 18  # each label has as much room as the longest
    assert cost["height"] >= 200 + 18 * sum(name.count("<br>") + 1 for name in below)
    assert [f["height"] for f in summary_figures(summary_of({"SASRec": 0.1, "Pop": 0.2}))] == [
        380,
        380,
    ]
