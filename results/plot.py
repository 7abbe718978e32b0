"""Plot quality against time for the sequential models on prime-pantry, from the raw runs.

    python results/plot.py            # writes quality-time-light.svg and quality-time-dark.svg
    python results/plot.py --check    # fails if the numbers of a plot differ from the raw runs

Each SVG file holds its numbers in its description, so the check does not need to plot.
"""

from __future__ import annotations

import argparse
import html
import json
import re
import statistics
from typing import Any

from tables import RESULTS, SEQUENTIAL, Row

SHARED = "baseline-item-init"  # the machines had other work, so the times are not meaningful
# GitHub's colors.
TEXT = {"light": "#1f2328", "dark": "#e6edf3"}
GROUND = {"light": "#ffffff", "dark": "#0d1117"}
COLORS = {"SASRec": "#1f83c9", "PAD": "#d55e00", "LLM-ESR": "#0c9f73"}
OTHER_MACHINE = ("pad-wide", "first-scores")
ROWS = [row for row in SEQUENTIAL if row.file not in OTHER_MACHINE]
# Offset of each label from its point, in points: to the right (or left), up (or down).
PLACES = {
    "SASRec": (7, 5),
    "item_init, std .02": (7, -13),
    "item_init, H 128, std .02": (-7, 5),
    "item_init, H 128, std .3": (7, -14),
    "item_init, H 192, std .3": (7, 6),
    "PAD": (-7, -13),
    "LLM-ESR": (-7, 5),
}
Points = list[tuple[float, float]]


def points(row: Row) -> Points:
    """Return the seconds of the whole run and the test NDCG@10 for each seed."""
    return [(run["seconds"], run["test_result"]["ndcg@10"]) for run in row.runs()]


def described() -> str:
    """Return all numbers of the plot as JSON."""
    return json.dumps({row.label: points(row) for row in ROWS})


def draw(theme: str) -> None:
    """Write ``quality-time-<theme>.svg``."""
    import matplotlib

    matplotlib.use("svg")
    from matplotlib import pyplot

    with pyplot.rc_context(_style(theme)):
        figure, axes = pyplot.subplots(figsize=(7.2, 3.9), layout="constrained")
        for row in ROWS:
            _point(axes, row)
        axes.set_xscale("log")
        axes.set_xlim(60, 3600)
        axes.set_xticks([60, 120, 300, 600, 1200, 2400], ["1", "2", "5", "10", "20", "40"])
        axes.minorticks_off()
        axes.set_xlabel("minutes of the run, one thread (logarithmic)")
        axes.set_ylabel("test NDCG@10")
        axes.yaxis.set_major_formatter(lambda value, _: f"{value:.3f}".lstrip("0"))
        about = {"Date": None, "Title": "Quality and time", "Description": described()}
        figure.savefig(_file(theme), metadata=about)
        pyplot.close(figure)


def _style(theme: str) -> dict[str, Any]:
    """Colors of the theme. Text is kept as text, and ids are the same in every written file."""
    lines = ("text.color", "axes.edgecolor", "axes.labelcolor", "xtick.color", "ytick.color")
    grounds = ("figure.facecolor", "axes.facecolor", "savefig.facecolor")
    return {
        **dict.fromkeys((*lines, "grid.color"), TEXT[theme]),
        **dict.fromkeys(grounds, GROUND[theme]),
        "axes.grid": True, "grid.alpha": 0.15, "grid.linewidth": 0.6, "axes.linewidth": 0.6,
        "axes.spines.top": False, "axes.spines.right": False,
        "font.size": 10, "svg.fonttype": "none", "svg.hashsalt": "quality-time",
    }  # fmt: skip


def _point(axes: Any, row: Row) -> None:
    """Plot the mean score at the median time, and the range over seeds.

    The point is hollow if the machine had other work.
    """
    seconds, scores = zip(*points(row))
    x, y = statistics.median(seconds), statistics.mean(scores)
    label = row.label.removeprefix("SASRec, ").replace("`item_init_std`", "std")
    color = COLORS[row.label.partition(",")[0]]
    axes.hlines(y, min(seconds), max(seconds), color=color, linewidth=1)
    axes.vlines(x, min(scores), max(scores), color=color, linewidth=1)
    face = color if row.file != SHARED else axes.figure.get_facecolor()
    axes.scatter(x, y, s=56, facecolor=face, edgecolor=color, linewidths=1.6, zorder=3)
    right, up = PLACES[label]
    side = "left" if right > 0 else "right"
    place = {"xytext": (right, up), "textcoords": "offset points", "horizontalalignment": side}
    axes.annotate(label, (x, y), color=color, **place)


def _file(theme: str) -> str:
    return str(RESULTS / f"quality-time-{theme}.svg")


def check(theme: str) -> None:
    """Compare the numbers in an SVG file with the raw runs.

    Raises:
        SystemExit: the numbers differ.
    """
    with open(_file(theme), encoding="utf-8") as file:
        found = re.search(r"<dc:description>(.*?)</dc:description>", file.read(), re.S)
    if not found or html.unescape(found[1]) != described():
        raise SystemExit(f"{_file(theme)} differs from the raw runs: run python results/plot.py")


def main() -> None:
    """Write the plots or, with ``--check``, compare them."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--check", action="store_true", help="write nothing; fail on a difference")
    for_each = check if parser.parse_args().check else draw
    for theme in TEXT:
        for_each(theme)


if __name__ == "__main__":
    main()
