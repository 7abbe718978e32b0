"""The figures of a comparison's page, as plotly reads them: plain dicts of traces and layout."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Mapping, Sequence
from html import escape
from itertools import cycle
from typing import Any

from recbole_llm.tasks.compare.summary import Row, Summary

Figure = dict[str, Any]
_BESIDE, _BELOW = 16, 44  # characters of a label's line: beside an axis, in a legend
_WHISKER = "#000000"  # else plotly looks for one color where the bars have several
_HEIGHT, _LINE = 380, 18  # pixels of a figure, of a line of a label
_LABELS = {"type": "category", "automargin": True}  # else labels such as 64 would be numbers
COLORS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#999999", "#000000")


def make_figure(
    title: str,
    note: str,
    traces: Sequence[Mapping[str, Any]],
    x: str = "",
    y: str = "",
    **layout: Any,
) -> Figure:
    """Make a figure; title and note stand above it, as text of the page. `x` and `y` are the titles
    of the axes, and `layout` has further keys of plotly's layout."""
    axes = {"xaxis": {"title": {"text": x}, "automargin": True},
            "yaxis": {"title": {"text": y}, "automargin": True}}  # fmt: skip
    return {"title": title, "note": note, "height": _height(traces), "data": list(traces),
            "layout": {**axes, **layout}}  # fmt: skip


def _height(traces: Sequence[Mapping[str, Any]]) -> int:
    """A height with room for labels of many lines, beside the axis and in the legend."""
    beside = [y.count("<br>") for trace in traces for y in trace.get("y", ()) if isinstance(y, str)]
    below = [trace["name"].count("<br>") + 1 for trace in traces if "name" in trace]
    rows = len(beside) * (max(beside, default=0) + 1)
    return max(_HEIGHT, 100 + _LINE * rows, 290 + _LINE * sum(below))


def wrap_label(label: str, width: int = _BESIDE) -> str:
    """Wrap a label into lines that are narrow enough for a phone."""
    wrapped = textwrap.wrap(label, width)
    return "<br>".join(escape(line, quote=False) for line in wrapped)  # plotly reads HTML


def summary_figures(summary: Summary) -> Iterator[Figure]:
    """Draw all figures that the summary has numbers for."""
    yield _draw_means(summary)
    if any(test.metric == summary.metrics[0] for test in summary.tests):
        yield _draw_differences(summary)
    if any(_group_means(row, summary.metrics[0]) for row in summary.rows):
        yield _draw_groups(summary)
    if any(training["curve"] for row in summary.rows for training in row.runs[0]["trainings"]):
        yield _draw_curves(summary)
    yield _draw_cost(summary)


def _colored_rows(summary: Summary) -> list[tuple[Row, str]]:
    """The models, each with its color in all figures."""
    return list(zip(summary.rows, cycle(COLORS)))


def _draw_means(summary: Summary) -> Figure:
    metric, rows = summary.metrics[0], _colored_rows(summary)[::-1]  # plotly begins at the bottom
    spreads = [row.test[metric] for row, _ in rows]
    bar = {
        "type": "bar", "orientation": "h", "y": [wrap_label(row.label) for row, _ in rows],
        "x": [spread.mean for spread in spreads],
        "error_x": {"type": "data", "color": _WHISKER, "array": [s.sd or 0 for s in spreads]},
        "marker": {"color": [color for _, color in rows]},
    }  # fmt: skip
    note = "Mean over seeds; whiskers: one standard deviation over seeds."
    return make_figure(f"{metric} on test", note, [bar], metric, yaxis=_LABELS)


def _draw_differences(summary: Summary) -> Figure:
    tests = [test for test in summary.tests if test.metric == summary.metrics[0]][::-1]
    means = [test.difference.mean for test in tests]
    points = {
        "type": "scatter", "mode": "markers",
        "y": [wrap_label(test.label) for test in tests], "x": means,
        "error_x": {
            "type": "data", "color": _WHISKER, "symmetric": False,
            "array": [t.difference.high - t.difference.mean for t in tests],
            "arrayminus": [t.difference.mean - t.difference.low for t in tests],
        },
        "text": [f"p = {test.p:.4f}" for test in tests],
        "marker": {"size": 9, "color": ["#0072b2" if t.significant else "#999999" for t in tests]},
    }  # fmt: skip
    zero = {"type": "line", "x0": 0, "x1": 0, "yref": "paper", "y0": 0, "y1": 1,
            "line": {"dash": "dot", "width": 1}}  # fmt: skip
    note = "95 % intervals by the bootstrap over users; gray: not significant after correction."
    title = f"{summary.metrics[0]}: difference from {summary.baseline}"
    return make_figure(title, note, [points], "difference", yaxis=_LABELS, shapes=[zero])


def _group_means(row: Row, metric: str) -> dict[str, float]:
    """{group: mean over seeds} of a metric."""
    start = f"{metric} ("
    found = {key: spread.mean for key, spread in row.test.items() if key.startswith(start)}
    return {key[len(start) : -1]: mean for key, mean in found.items()}


def _draw_groups(summary: Summary) -> Figure:
    metric, traces = summary.metrics[0], []
    for row, color in _colored_rows(summary):
        values = _group_means(row, metric)
        traces.append({"type": "bar", "name": wrap_label(row.label, _BELOW), "x": list(values),
                       "y": list(values.values()), "marker": {"color": color}})  # fmt: skip
    note = "Groups of items and users by their training interactions; means over seeds."
    return make_figure(f"{metric} by group", note, traces, "", metric, barmode="group")


def _draw_curves(summary: Summary) -> Figure:
    traces = []
    for row, color in _colored_rows(summary):
        points = [point for training in row.runs[0]["trainings"] for point in training["curve"]]
        traces.append({
            "type": "scatter", "mode": "lines+markers", "name": wrap_label(row.label, _BELOW),
            "x": [seconds for _, seconds, _ in points], "y": [score for *_, score in points],
            "line": {"color": color}, "marker": {"size": 4},
        })  # fmt: skip
    note = "Validation after each epoch, against seconds of training and validation; first run."
    metric = str(summary.rows[0].runs[0]["valid_metric"])
    return make_figure("Learning", note, traces, "seconds", metric)


def _draw_cost(summary: Summary) -> Figure:
    traces = [
        {"type": "scatter", "mode": "markers", "name": wrap_label(row.label, _BELOW),
         "x": [row.seconds], "y": [row.memory], "marker": {"size": 12, "color": color},
         "text": [f"{row.parameters:,.0f} parameters"]}
        for row, color in _colored_rows(summary)
    ]  # fmt: skip
    note = "Of a whole run, with data and test; mean over seeds."
    layout = {"xaxis": {"type": "log", "title": {"text": "seconds"}, "automargin": True}}
    return make_figure("Time and memory", note, traces, "", "peak memory, MiB", **layout)
