"""The summary of a comparison: means, variation over seeds, tested differences."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from recbole.evaluator.register import smaller_metrics

from recbole_llm.tasks.compare.cells import Cell
from recbole_llm.tasks.compare.significance import PairedTest, compare_with_baseline


@dataclass(frozen=True)
class Spread:
    """Mean and sample standard deviation over seeds; sd is None for a single seed."""

    mean: float
    sd: float | None

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        """The spread of one value per seed; NaN if a seed has none."""
        if not all(map(math.isfinite, values)):
            return cls(math.nan, None)
        sd = statistics.stdev(values) if len(values) > 1 else None
        return cls(statistics.mean(values), sd)


@dataclass(frozen=True)
class Row:
    """One model of a comparison, over its seeds."""

    label: str
    arguments: list[str]  # its command line
    seeds: list[int]  # of the runs that ended well
    valid: dict[str, Spread]  # by metric
    test: dict[str, Spread]  # the same
    seconds: float  # mean over seeds, like memory, parameters and best_epoch
    memory: float | None
    parameters: float
    best_epoch: float | None
    runs: list[dict[str, Any]]  # each run's result, as it wrote it
    folders: list[str]  # of the runs, beside ``result.json``


@dataclass
class Summary:
    """A comparison."""

    rows: list[Row]  # models with a run that ended well, in the order given
    metrics: list[str]  # of the table, the validation metric first
    smaller: set[str]  # metrics for which less is better
    baseline: str  # label
    protocol: str  # in words
    dataset: str  # its name and its size, in words
    tests: list[PairedTest] = field(default_factory=list)  # one for each other model and metric
    failures: dict[str, str] = field(default_factory=dict)  # {run: reason}
    # What to know about how the models were judged, in words.
    notes: list[str] = field(default_factory=list)

    def ranked(self, metric: str) -> list[Row]:
        """The rows that have a value of the metric, the best on test first."""
        sign = 1 if metric in self.smaller else -1
        valued = [row for row in self.rows if not math.isnan(row.test[metric].mean)]
        return sorted(valued, key=lambda row: sign * row.test[metric].mean)

    def to_dict(self) -> dict[str, Any]:
        """The content of ``result.json``."""
        return {**asdict(self), "smaller": sorted(self.smaller)}


def summarize(cells: Sequence[Cell], failures: Mapping[Cell, str], baseline: str) -> Summary:
    """Summarize the cells that are done.

    Raises:
        ValueError: no cell is done, or two models were not tested on the same items.
    """
    done = [cell for cell in cells if cell.is_done]
    reasons = {cell.name: why for cell, why in failures.items()}
    if not done:
        raise ValueError(f"no run ended well; {'; '.join(f'{k}: {v}' for k, v in reasons.items())}")
    by_label = {
        label: own
        for label in dict.fromkeys(cell.entry.label for cell in cells)
        if (own := [cell for cell in done if cell.entry.label == label])
    }
    first = done[0].result
    rows = [_make_row(label, own) for label, own in by_label.items()]
    metrics = _shared_metrics(first, rows)
    smaller = {metric for metric in metrics if metric.partition("@")[0] in smaller_metrics}
    sizes = ", ".join(f"{number:,} {what}" for what, number in first["data"]["size"].items())
    dataset = f"{first['dataset']}: {sizes}"
    others = {label: own for label, own in by_label.items() if label != baseline}
    tests = compare_with_baseline(by_label.get(baseline, []), others, metrics)
    return Summary(rows, metrics, smaller, baseline, first["protocol"], dataset, tests, reasons)


def describe_rows(rows: Sequence[Row], metrics: Sequence[str]) -> list[str]:
    """What a reader has to know about the rows: other data, metrics without a value, and repeated
    items that can be recommended again."""
    repeats = dict.fromkeys(row.runs[0]["repeats"] for row in rows)
    sizes, missing = _describe_other_sizes(rows), _describe_missing(rows, metrics)
    return [*sizes, *missing, *filter(None, repeats)]


def _describe_other_sizes(rows: Sequence[Row]) -> list[str]:
    """The models that read less or more of the data than the first one, in words."""
    first, *others = [(row.label, row.runs[0]["data"]["size"]) for row in rows]
    found = []
    for label, own in others:
        apart = [what for what, number in own.items() if number != first[1].get(what)]
        if apart:
            here, there = (
                ", ".join(f"{size[what]:,} {what}" for what in apart) for size in (own, first[1])
            )
            found.append(
                f"{label} has {here}, {first[0]} {there}: filters, or missing rows of the .item or "
                f".user file, leave out different data"
            )
    return found


def _describe_missing(rows: Sequence[Row], metrics: Sequence[str]) -> list[str]:
    """The metrics without a value on test, with the models concerned, in words."""
    found = []
    for metric in metrics:
        if without := [row for row in rows if math.isnan(row.test[metric].mean)]:
            found.append(
                f"{metric} has no value for {', '.join(row.label for row in without)}: a warning "
                f"in {without[0].folders[0]}/output.txt says why"
            )
    return found


def _make_row(label: str, cells: Sequence[Cell]) -> Row:
    runs = [cell.result for cell in cells]
    epochs = [run["best_epoch"] for run in runs]
    memory = [run["peak_memory_mib"] for run in runs]
    return Row(
        label=label,
        arguments=cells[0].entry.argv,
        seeds=[cell.seed for cell in cells],
        valid=_make_spreads([run["best_valid_result"] or {} for run in runs]),
        test=_make_spreads([run["test_result"] or {} for run in runs]),
        seconds=statistics.mean(run["seconds"]["all"] for run in runs),
        memory=None if None in memory else statistics.mean(memory),
        parameters=statistics.mean(run["parameters"] for run in runs),
        best_epoch=None if None in epochs else statistics.mean(epochs),
        runs=runs,
        folders=[f"cells/{cell.folder.name}" for cell in cells],
    )


def _make_spreads(results: Sequence[Mapping[str, float]]) -> dict[str, Spread]:
    names = [name for name in results[0] if all(name in result for result in results)]
    return {
        name: Spread.of([math.nan if run[name] is None else run[name] for run in results])
        for name in names
    }


def _shared_metrics(first: Mapping[str, Any], rows: Sequence[Row]) -> list[str]:
    """The test metrics that all models have, without groups; the validation metric first."""
    deciding = first["valid_metric"].lower()
    common = [name for name in rows[0].test if all(name in row.test for row in rows)]
    return sorted((m for m in common if not m.endswith(")")), key=lambda m: m != deciding)
