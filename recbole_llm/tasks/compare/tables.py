"""A comparison as Markdown, as LaTeX, and in sentences."""

from __future__ import annotations

import math
import re
import shutil
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import click
from pandas import DataFrame

from recbole_llm.core.files import OTHER_FOLDER, write_whole
from recbole_llm.core.lines import aligned, plural, width
from recbole_llm.tasks.compare.significance import LEVEL, PairedTest
from recbole_llm.tasks.compare.summary import Row, Spread, Summary
from recbole_llm.trainers.progress import duration

_NO_TERMINAL = 10_000  # columns for a file or a pipe
_UNRANKED = "shannonentropy"  # RecBole's falls as more items are recommended: neither end is better
# Characters with a meaning in Markdown or HTML; < and & only where a tag or an entity may begin.
_MARKDOWN = re.compile(r"[\\`*\[\]|~>]|(?<!\w)_|_(?!\w)|<(?=[A-Za-z/!?])|&(?=#?\w+;)")
_HTML = {"<": "&lt;", ">": "&gt;", "&": "&amp;"}
_LATEX = {"&": r"\&", "%": r"\%", "_": r"\_", "#": r"\#", "$": r"\$", "{": r"\{", "}": r"\}",
          "~": r"\textasciitilde{}", "^": r"\^{}", "\\": r"\textbackslash{}", "<": r"\textless{}",
          ">": r"\textgreater{}", "|": r"\textbar{}", "†": r"\dag{}", "-": "-{}"}  # fmt: skip


def write_tables(summary: Summary, root: Path) -> None:
    """Write ``table.md`` and ``table.tex``."""
    lines = [*markdown_lines(summary), "", *map(_escape_markdown, sentences(summary))]
    for name, content in (("table.md", lines), ("table.tex", latex_lines(summary))):
        write_whole(root / name, "\n".join([*content, ""]).encode("utf-8"), OTHER_FOLDER)


def screen_lines(summary: Summary) -> Iterator[str]:
    """The table for a terminal, with marks as in Markdown, and what it shows in words."""
    best, second = partial(click.style, bold=True), partial(click.style, underline=True)
    table = list(table_rows(summary, best, second))
    columns = shutil.get_terminal_size((_NO_TERMINAL, 0)).columns
    left_out: list[str] = []
    while len(left_out) < len(summary.metrics) - 1 and max(map(width, aligned(table))) > columns:
        last = table[0].index(f"valid {summary.metrics[0]}") - 1
        left_out.insert(0, table[0][last])
        for row in table:
            del row[last]
    yield from aligned(table)
    if left_out:
        yield f"{', '.join(left_out)}: in table.md, since this terminal is narrow"
    yield ""
    yield from sentences(summary)


def markdown_lines(summary: Summary) -> Iterator[str]:
    """The table in Markdown: the best is bold, the second underlined."""
    head, *rows = table_rows(summary, "**{}**".format, "<u>{}</u>".format)
    for label, *cells in (head, ["---"] * len(head), *rows):
        yield f"| {' | '.join([_escape_markdown(label), *cells])} |"


def _escape_markdown(text: str) -> str:
    """Escape a text so that Markdown shows it as it is."""
    return _MARKDOWN.sub(lambda found: _HTML.get(found[0], f"\\{found[0]}"), text)


def table_rows(
    summary: Summary, best: Callable[[str], str], second: Callable[[str], str]
) -> Iterator[list[str]]:
    """The rows of the table's cells, the header first."""
    yield ["model", "seeds", *summary.metrics, f"valid {summary.metrics[0]}", "time", "memory"]
    for row in summary.rows:
        cells = _mark_numbers(summary, row, best, second, " ± ")
        valid = row.valid.get(summary.metrics[0])
        memory = "-" if row.memory is None else f"{row.memory:,.0f} MiB"
        yield [
            row.label, str(len(row.seeds)), *cells,
            "-" if valid is None else format_spread(valid, " ± "), duration(row.seconds), memory,
        ]  # fmt: skip


def latex_lines(summary: Summary) -> list[str]:
    """The table as a ``tabular`` of booktabs."""
    bold, underline = r"\textbf{{{}}}".format, r"\underline{{{}}}".format
    rows = []
    for row in summary.rows:
        cells = _mark_numbers(summary, row, bold, underline, r"\,$\pm$\,")
        # Else the \\ before them would take [ and * as its arguments.
        start = "{}" if row.label.startswith(("[", "*")) else ""
        numbers = [cell.replace("†", r"$^\dagger$") for cell in cells]
        rows.append([start + _escape_latex(row.label), *numbers])
    table = DataFrame(rows, columns=["Model", *map(_escape_latex, summary.metrics)])
    columns = f"l{'r' * len(summary.metrics)}"
    text = table.to_latex(index=False, escape=False, column_format=columns)
    return [r"% \usepackage{booktabs}", *text.splitlines()]


def _escape_latex(text: str) -> str:
    # LaTeX turns two hyphens in a row into a dash.
    return re.sub(r"[&%_#${}~^\\<>|†]|-(?=-)", lambda found: _LATEX[found[0]], text)


def _mark_numbers(
    summary: Summary,
    row: Row,
    best: Callable[[str], str],
    second: Callable[[str], str],
    between: str,
) -> Iterator[str]:
    """A row's numbers, the best two of each column and the significant ones marked."""
    differ = {test.metric for test in summary.tests if test.label == row.label and test.significant}
    for metric in summary.metrics:
        text, mean = format_spread(row.test[metric], between), row.test[metric].mean
        order = list(dict.fromkeys(own.test[metric].mean for own in summary.ranked(metric)))
        ranked = len(summary.rows) > 1 and metric.partition("@")[0] != _UNRANKED
        if ranked and mean in order[:2]:
            text = (best, second)[order.index(mean)](text)
        yield text + "†" if metric in differ else text


def format_spread(spread: Spread, between: str) -> str:
    """``.0487 ± .0004``; ``-`` where there is no value."""
    if math.isnan(spread.mean):
        return "-"
    if spread.sd is None:
        return _format_number(spread.mean)
    return f"{_format_number(spread.mean)}{between}{_format_number(spread.sd)}"


def _format_number(value: float) -> str:
    """Four decimals, without the zero before the point."""
    return re.sub(r"^(-?)0\.", r"\1.", f"{value:.4f}")


def sentences(summary: Summary) -> Iterator[str]:
    """Say in words what the table shows."""
    many = max(len(row.seeds) for row in summary.rows)
    spread = " ± the standard deviation over them" if many > 1 else ""
    up_to = "up to " if any(len(row.seeds) < many for row in summary.rows) else ""
    yield (
        f"{summary.dataset}; {summary.protocol}. Means over "
        f"{up_to}{plural(many, 'seed')}{spread}; the best epoch of each run by validation."
    )
    if summary.tests:
        found = any(test.significant for test in summary.tests)
        mark = "† differs" if found else "No number differs"
        models = len({test.label for test in summary.tests})
        pairs = f"the {models} comparisons of a column" if models > 1 else "the one comparison"
        apart = " (the number after ±)" if many > 1 else ", which one seed cannot show"
        yield (
            f"{mark} from {summary.baseline} (p < {LEVEL:g}): permutation test over users, "
            f"whose metrics are averaged over seeds first, corrected by Holm's method for {pairs}. "
            f"Intervals are of 95 %, by the bootstrap over users, and not corrected. "
            f"The test takes the variation over users into account, not that over seeds{apart}."
        )
    deciding = summary.metrics[0]
    yield from (
        f"- {_describe_test(summary, test)}" for test in summary.tests if test.metric == deciding
    )
    tested = {summary.baseline, *(test.label for test in summary.tests)}
    seeds = {seed for row in summary.rows if row.label == summary.baseline for seed in row.seeds}
    yield from (
        f"- {row.label} is not tested: no seed ended well with both it and {summary.baseline}"
        for row in summary.rows
        if row.label not in tested and seeds.isdisjoint(row.seeds)
    )
    yield from (f"- {note}" for note in summary.notes)
    yield from (f"- {name} failed: {why}" for name, why in summary.failures.items())


def _describe_test(summary: Summary, test: PairedTest) -> str:
    found, baseline = test.difference, summary.baseline
    rows = {row.label: row for row in summary.rows}
    relative = f" ({100 * found.mean / test.baseline:+.1f} %)" if test.baseline else ""
    sign = -1 if test.metric in summary.smaller else 1
    p = f"{test.p:.4f}" if test.p >= 0.0001 else "below .0001"
    if not test.significant:
        verdict = "no difference that the test can tell from chance"
    else:
        verdict = "better" if sign * found.mean > 0 else "worse"
    sds = [rows[label].test[test.metric].sd for label in (test.label, baseline)]
    over = ""
    if None not in sds:
        first, second = (_format_number(sd or 0) for sd in sds)
        over = f"; over seeds they vary by {first} and {second}"
    apart = ""
    if test.seeds < max(len(rows[label].seeds) for label in (test.label, baseline)):
        apart += f" This is over the {plural(test.seeds, 'seed')} that ended well with both."
    if test.left_out:
        apart += (
            f" {plural(test.left_out, 'user')} that one of the two was not tested on "
            f"{'is' if test.left_out == 1 else 'are'} left out here, not in the table."
        )
    return (
        f"{test.label} against {baseline}, {test.metric}: {found.mean:+.4f}{relative}, interval "
        f"{found.low:+.4f} to {found.high:+.4f}, p = {p}: {verdict}. Its metric differs "
        f"for {found.users[0]:,} of {found.users[1]:,} users{over}.{apart}"
    )
