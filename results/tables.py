"""Write the tables of README.md and of the pages in this folder from the raw runs.

The raw runs are the JSON files in this folder, which raw.py makes from comparisons.

    python results/tables.py            # writes the pages
    python results/tables.py --check    # prints a diff and fails if a page differs

In a page, a table is between ``<!-- table NAME -->`` and ``<!-- end -->``.
"""

from __future__ import annotations

import argparse
import difflib
import functools
import json
import re
import statistics
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent
PAGES = (
    RESULTS.parent / "README.md",
    *(RESULTS / f"{name}.md" for name in ("quality", "bahe", "llmcf", "molar")),
)
BLOCK = re.compile(r"(<!-- table ([\w-]+) -->\n).*?(<!-- end -->)", re.S)
Run = dict[str, Any]


@dataclass(frozen=True)
class Row:
    """Runs that differ only in the seed.

    file: name without ``.json``; the file has ``runs``, each under ``"<name> / <seed>"``.
    name: name of the runs in the file; empty: the label.
    seeds: seeds of the runs; empty: all seeds in the file.
    """

    label: str
    file: str
    name: str = ""
    seeds: tuple[int, ...] = ()

    def runs(self) -> list[Run]:
        """Return one run per seed, and at least one run."""
        name, runs = self.name or self.label, []
        for key, run in _read(self.file).items():
            of, _, seed = key.rpartition(" / ")
            if of == name and (not self.seeds or int(seed) in self.seeds):
                runs.append({**run, "seed": int(seed)})
        if not runs:
            raise SystemExit(f"results/{self.file}.json has no run named '{name}'")
        return runs


@dataclass(frozen=True)
class Column:
    """The mean of a number over the runs of a row.

    spread: also show the sample standard deviation.
    best: make the highest mean bold.
    """

    title: str
    value: Callable[[Run], float]
    spread: bool = False
    best: bool = False
    digits: int = 4

    def mean(self, runs: Sequence[Run]) -> float:
        return statistics.mean(self.value(run) for run in runs)

    def text(self, runs: Sequence[Run], highest: float) -> str:
        mean = self.mean(runs)
        text = number(mean, self.digits)
        if self.spread and len(runs) > 1:
            text += f" ± {number(statistics.stdev(map(self.value, runs)), self.digits)}"
        return f"**{text}**" if self.best and mean == highest else text


@dataclass(frozen=True)
class Table:
    """Rows and columns; with ``seeds``, the second column has the seeds."""

    rows: Sequence[Row]
    columns: Sequence[Column]
    first: str = "model"
    seeds: bool = True
    above: tuple[str, ...] = ()  # cells of an additional line above the rows

    def text(self) -> str:
        runs = [row.runs() for row in self.rows]
        highest = [max(map(column.mean, runs)) for column in self.columns]
        head = [self.first, *["seeds"] * self.seeds, *(column.title for column in self.columns)]
        lines: list[Sequence[str]] = [head, ["---"] * len(head), *filter(None, [self.above])]
        for row, own in zip(self.rows, runs):
            cells = [column.text(own, top) for column, top in zip(self.columns, highest)]
            lines.append([row.label, *[_seeds(own)] * self.seeds, *cells])
        return "".join("| " + " | ".join(line) + " |\n" for line in lines)


def number(value: float, digits: int = 4) -> str:
    """Format a number as on the pages: .0487, 26."""
    text = f"{value:.{digits}f}"
    return text.removeprefix("0") if digits else text


def tested(metric: str) -> Callable[[Run], float]:
    """Return a function that reads a metric from a run's test result."""
    return lambda run: float(run["test_result"][metric])


def group(name: str) -> Column:
    """Return the column of test NDCG@10 within a group of items or users."""
    return Column(name, tested(f"ndcg@10 ({name})"))


def best_epoch(run: Run) -> int:
    """Return the epoch whose weights are kept, counted from 1 through all phases of a training.

    It is the last epoch with the final best score of the run: of epochs with equal scores, the
    later one is kept, and a phase before the last may have had a higher score.
    """
    scores, best = run["valid_scores"], run["best_valid_score"]
    return max(epoch for epoch, score in enumerate(scores, 1) if score == best)


def rewritten(page: str) -> str:
    """Return a page with its tables rewritten from the raw runs."""
    return BLOCK.sub(lambda found: f"{found[1]}\n{TABLES[found[2]].text()}\n{found[3]}", page)


def require_all(pages: Iterable[str]) -> None:
    """Check that the pages have every table: one whose marks are gone would never be compared.

    Raises:
        SystemExit: a table is not in exactly one place, or a page names an unknown table.
    """
    named = sorted(found[2] for page in pages for found in BLOCK.finditer(page))
    if named != sorted(TABLES):
        raise SystemExit(f"The pages have the tables {named}, not {sorted(TABLES)}")


def main(pages: Iterable[Path] = PAGES) -> None:
    """Write the pages or, with ``--check``, compare them."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--check", action="store_true", help="write nothing; fail on a difference")
    check, differs = parser.parse_args().check, False
    texts = {page: page.read_text(encoding="utf-8") for page in pages}
    require_all(texts.values())
    for page, old in texts.items():
        new = rewritten(old)
        lines = old.splitlines(keepends=True), new.splitlines(keepends=True)
        sys.stdout.writelines(difflib.unified_diff(*lines, page.name, "from the raw runs"))
        differs |= old != new
        if not check:
            page.write_text(new, encoding="utf-8")
    if check and differs:
        raise SystemExit("The pages differ from the raw runs: run python results/tables.py")


@functools.cache
def _read(file: str) -> dict[str, Run]:
    runs: dict[str, Run] = json.loads((RESULTS / f"{file}.json").read_text("utf-8"))["runs"]
    return runs


def _seeds(runs: Sequence[Run]) -> str:
    return str(len(runs)) if len(runs) > 1 else f"1 ({runs[0]['seed']})"


VALID = Column("valid NDCG@10", lambda run: run["best_valid_result"]["ndcg@10"], True, True)
TEST = Column("test NDCG@10", tested("ndcg@10"), True, True)
RECALL = Column("test Recall@10", tested("recall@10"), True, True)
EPOCH = Column("best epoch", best_epoch, digits=0)
GROUPS = ("head items", "tail items", "cold items", "warm items", "head users", "tail users")


def rows_of(file: str, *names: str) -> list[Row]:
    """Return rows whose labels are the names of their runs."""
    return [Row(name, file) for name in names]


TUNED_TEXTS = "SASRec, from the texts, the best of six trials"
FIRST_SCORES = "SASRec, item_init, H 192, first scores 1"

SEQUENTIAL = (
    Row("SASRec", "prime-pantry"),
    Row("SASRec, item_init, `item_init_std` .02", "prime-pantry", "SASRec, item_init"),
    Row(
        "SASRec, item_init, H 128, `item_init_std` .02", "prime-pantry", "SASRec, item_init, H 128"
    ),
    Row("SASRec, item_init, H 128, `item_init_std` .3", "baseline-item-init", "std .3"),
    Row("SASRec, item_init, H 192, `item_init_std` .3", "baseline-item-init", "std .3, H 192"),
    Row("the same, `item_init_score_std` 1", "first-scores", FIRST_SCORES),
    Row("PAD", "prime-pantry"),
    Row("PAD, H 192", "pad-wide"),
    Row("PAD, H 192, ID expert alone", "pad-wide", "PAD, ID expert"),
    Row("LLM-ESR", "prime-pantry"),
)
FIRST = (
    Row("Prime Pantry, 0", "baseline-item-init", "std .3, H 192"),
    Row("Prime Pantry, 1 (default)", "first-scores", FIRST_SCORES),
    *(
        Row(f"ml-100k, {std}", "first-scores", f"SASRec, item_init, ml-100k, first scores {std[0]}")
        for std in ("0", "1 (default)")
    ),
)
PANTRY, FILMS, TOYS_GENERAL = "general-prime-pantry", "general-ml-100k", "general-toys"
GENERAL = (
    Row("AlphaRec, prime-pantry", "alpharec-prime-pantry", "AlphaRec"),
    Row("AlphaRec, authors' settings, prime-pantry", "alpharec-authors", "AlphaRec"),
    Row("AlphaRec, map of 192, prime-pantry", PANTRY, "AlphaRec"),
    Row("AlphaRec, linear map, prime-pantry", PANTRY, "AlphaRec, linear map"),
    Row("LightGCN, tuned, prime-pantry", PANTRY, "LightGCN, tuned"),
    Row("LightGCN, tuned, item_init, prime-pantry", PANTRY, "LightGCN, tuned, item_init"),
    Row("LightGCN, tuned, D 256, prime-pantry", "lightgcn-wide", "LightGCN, D 256"),
    Row(
        "LightGCN, tuned, D 256, item_init, prime-pantry",
        "lightgcn-wide",
        "LightGCN, D 256, item_init",
    ),
    Row("LightGCN, RecBole's defaults, prime-pantry", PANTRY, "LightGCN"),
    Row("AlphaRec, ml-100k", "alpharec-ml-100k", "AlphaRec"),
    Row("AlphaRec, map of 192, ml-100k", FILMS, "AlphaRec"),
    Row("LightGCN, tuned, ml-100k", FILMS, "LightGCN, tuned"),
    Row("LightGCN, RecBole's defaults, ml-100k", FILMS, "LightGCN"),
    Row("AlphaRec, `tau` .15, amazon-toys", "alpharec-toys", "AlphaRec, tau .15"),
    Row("AlphaRec, map of 192, amazon-toys", TOYS_GENERAL, "AlphaRec"),
    Row(
        "LightGCN, tuned on prime-pantry, amazon-toys",
        TOYS_GENERAL,
        "LightGCN, tuned on prime-pantry",
    ),
)
README_SEQUENTIAL = (
    Row("`SASRec`, H 64", "prime-pantry", "SASRec"),
    Row("the same, the best of six trials", "tuned-two-seeds", "SASRec"),
    Row("`SASRec --item_init=llm`, H 128, the best of six trials", "tuned-texts", TUNED_TEXTS),
    Row("the same model, H 192, `--item_init_std=0.3`", "first-scores", FIRST_SCORES),
    Row("`PAD`, H 128, the best of six trials", "pad-tuned", "PAD"),
    Row("`PAD`, H 192", "pad-wide", "PAD, H 192"),
    Row("`LLMESR`, H 192", "prime-pantry", "LLM-ESR"),
    Row("the same model, the best of six trials", "llmesr-tuned", "LLM-ESR"),
    Row("`Molar`, H 64, the best of six trials", "molar-tuned", "Molar"),
)
README_TOYS = (
    Row("`SASRec`, H 64", "sequential-toys", "SASRec"),
    Row("`SASRec --item_init=llm`, H 192", "sequential-toys", "SASRec, item_init"),
    Row("`PAD`, H 192", "sequential-toys", "PAD, H 192"),
    Row("`LLMESR`, H 192", "sequential-toys", "LLM-ESR"),
)
ML_100K = rows_of(
    "sequential-ml-100k",
    "SASRec", "SASRec, item_init", "GRU4Rec, item_init", "PAD", "LLM-ESR", "Molar",
)  # fmt: skip
ML_100K_TUNED = rows_of(
    "sequential-ml-100k-tuned",
    "SASRec", "SASRec, item_init", "GRU4Rec, item_init", "PAD", "LLM-ESR", "Molar",
)  # fmt: skip
GRU4REC = rows_of(
    "sequential-ml-100k-gru4rec",
    "GRU4Rec, item_init", "GRU4Rec, item_init, as wide", "LLM-ESR, GRU4Rec",
)  # fmt: skip
ALPHA = rows_of("llmesr-alpha-ml-100k", "LLM-ESR", "LLM-ESR, alpha .01", "LLM-ESR, no distillation")
TOYS = (
    Row("SASRec", "sequential-toys"),
    Row("SASRec, item_init, H 192, `item_init_std` .3", "sequential-toys", "SASRec, item_init"),
    *rows_of("sequential-toys", "PAD", "PAD, H 192"),
    Row("the same, `pretrain_stopping_step` 10", "pad-toys", "PAD, H 192"),
    *rows_of("sequential-toys", "LLM-ESR", "LLM-ESR, no distillation"),
)
README_GENERAL = (
    Row("`LightGCN`, tuned", "lightgcn-wide", "LightGCN, D 256"),
    Row("the same, `--item_init=llm`", "lightgcn-wide", "LightGCN, D 256, item_init"),
    Row("`AlphaRec`", "lightgcn-wide", "AlphaRec"),
)
CLICKS = [
    *rows_of("clicks-labels", "BAHE", "DIN", "DIN, item_init", "DeepFM", "DCN"),
    Row("BAHE, random vectors", "clicks-labels-vectors"),
]
STARTS = ("BAHE, item_init", "DIN, item_init", "BAHE, random vectors")
CLICKS_ML_100K = [
    *rows_of("clicks-ml-100k-dropout", "BAHE, item_init", "DIN", "DIN, item_init"),
    Row("DIN, no dropout", "clicks-ml-100k", "DIN"),
    Row("DIN, item_init, no dropout", "clicks-ml-100k", "DIN, item_init"),
]
CLICKS_PRIME_PANTRY = [
    Row("BAHE", "clicks-prime-pantry-dropout", "BAHE, dropout"),
    Row("DIN", "clicks-prime-pantry-dropout"),
    Row("BAHE, no dropout", "clicks-prime-pantry", "BAHE"),
    Row("DIN, no dropout", "clicks-prime-pantry", "DIN"),
    *(Row(f"{name}, no dropout", "clicks-prime-pantry-starts", name) for name in STARTS),
]
CHOICES = (
    Row("SASRec, the best of six trials with one seed", "tuned-one-seed", "SASRec"),
    Row("SASRec, the best one with a second seed, too", "tuned-two-seeds", "SASRec"),
    Row("SASRec, item_init, the best one with a second seed, too", "tuned-texts", TUNED_TEXTS),
    Row("PAD, the best one with a second seed, too", "pad-tuned", "PAD"),
    Row("LLM-ESR, the best one with a second seed, too", "llmesr-tuned", "LLM-ESR"),
    Row("Molar, the best one with a second seed, too", "molar-tuned", "Molar"),
)
PAD_STARTS = rows_of("pad-starts", "from the texts", "random, std .3", "random, std .02")
PAD_ABLATIONS = (
    "PAD", "ID expert alone", "no alignment (gamma 0)", "linear kernel", "cosine kernel",
    "Laplace kernel", "InfoNCE alignment", "one gate for all items", "BCE", "GRU4Rec backbone",
    "Caser backbone", "random ID start", "random ID start, no alignment (gamma 0)",
    "random ID start, ID expert alone",
)  # fmt: skip
LLMESR_ABLATIONS = (
    "LLM-ESR", "w/o CA", "w/o SD", "w/o Se-view", "w/o Co-view", "w/o Share",
    "w/ 1-layer Adapter", "w/ Random Init", "w/ Random Init (items, adapter, attention)",
    "w/o aligned start", "text as it is", "H 64",
)  # fmt: skip


def ablations(file: str, names: Sequence[str]) -> Table:
    """Return a table of ablations, all with the same seed."""
    rows = [Row(name, file, seeds=(2020,)) for name in names]
    columns = [replace(c, best=False) for c in (VALID, TEST, group("tail items"))]
    columns += [group("cold items"), EPOCH]
    return Table(rows, columns, "configuration", seeds=False)


def sizes() -> tuple[str, ...]:
    """Return the numbers of users and items in each group's test rows, equal in all runs."""
    result = SEQUENTIAL[0].runs()[0]["test_result"]
    counts = (f"{result[f'users ({g})']:.0f}, {result[f'items ({g})']:.0f}" for g in GROUPS)
    return ("(users, items in the group's test rows)", *counts)


CLICK_COLUMNS = (
    Column("valid AUC", lambda run: float(run["best_valid_result"]["auc"]), True, True),
    Column("test AUC", tested("auc"), True, True),
    Column("test GAUC", tested("gauc"), True, True),
    Column("test LogLoss", tested("logloss"), True),
    EPOCH,
)
LLMCF_ABLATIONS = (
    "LLM-CF", "LLM-CF, item texts", "LLM-CF, no chains of thought", "LLM-CF, random examples",
    "LLM-CF, no reconstruction",
)  # fmt: skip
LLMCF = rows_of("llmcf-clicks", "DIN", *LLMCF_ABLATIONS)
RETRIEVAL = [
    *rows_of("llmcf-retrieval-tuned", "SASRec", "SASRec, item_init"),
    Row("LLM-CF, item_init, tuned", "llmcf-retrieval-tuned", "LLM-CF, item_init"),
    Row("LLM-CF, item_init", "llmcf-retrieval"),
]
RETRIEVAL_ABLATIONS = rows_of("llmcf-retrieval-ablations", *LLMCF_ABLATIONS)
MOLAR = rows_of(
    "molar-prime-pantry", "Molar", "Molar, no alignment", "Molar, early fusion", "SASRec, item_init"
)
SMOLLM2 = rows_of("molar-smollm2", "Molar", "SASRec, item_init")
MOLAR_CODES = rows_of("molar-codes", "Molar", "Molar, no alignment", "SASRec, item_init")
MOLAR_PLAIN = rows_of("molar-plain", "projection", "projection, no alignment")
TAIL = Column("tail items", tested("ndcg@10 (tail items)"), best=True)
RANKED = (VALID, TEST, RECALL, TAIL, EPOCH)
PLAIN = (replace(TEST, best=False), replace(TAIL, best=False))  # rows that are level have no best
TABLES = {
    "readme-sequential": Table(README_SEQUENTIAL, PLAIN, "Prime Pantry, leave-one-out"),
    "readme-toys": Table(README_TOYS, PLAIN, "Amazon Toys, leave-one-out"),
    "first-scores": Table(
        FIRST,
        (*(replace(c, best=False) for c in (VALID, TEST, TAIL)), EPOCH),
        "data set, `item_init_score_std`",
    ),
    "readme-general": Table(README_GENERAL, PLAIN[:1], "Prime Pantry, random split"),
    "sequential": Table(SEQUENTIAL, (VALID, TEST, RECALL, EPOCH)),
    "groups": Table(SEQUENTIAL, [group(g) for g in GROUPS], seeds=False, above=sizes()),
    "sequential-ml-100k": Table(ML_100K, RANKED),
    "sequential-ml-100k-tuned": Table(ML_100K_TUNED, RANKED),
    "sequential-ml-100k-gru4rec": Table(GRU4REC, RANKED),
    "llmesr-alpha-ml-100k": Table(ALPHA, RANKED),
    "sequential-toys": Table(TOYS, RANKED),
    "general": Table(GENERAL, (*(replace(c, best=False) for c in (VALID, TEST, RECALL)), EPOCH)),
    "llmcf-clicks": Table(LLMCF, CLICK_COLUMNS),
    "llmcf-retrieval": Table(RETRIEVAL, RANKED),
    "llmcf-retrieval-ablations": Table(RETRIEVAL_ABLATIONS, RANKED),
    "molar": Table(MOLAR, (VALID, TEST, RECALL, EPOCH)),
    "molar-codes": Table(MOLAR_CODES, RANKED),
    "molar-plain": Table(MOLAR_PLAIN, RANKED),
    "molar-smollm2": Table(SMOLLM2, (VALID, TEST, RECALL, EPOCH)),
    "clicks-labels": Table(CLICKS, CLICK_COLUMNS),
    "clicks-ml-100k": Table(CLICKS_ML_100K, CLICK_COLUMNS),
    "clicks-prime-pantry": Table(CLICKS_PRIME_PANTRY, CLICK_COLUMNS),
    "ablations-pad": ablations("ablations-pad", PAD_ABLATIONS),
    "pad-starts": Table(PAD_STARTS, RANKED, "start of the item table"),
    "tuned-choices": Table(CHOICES, RANKED),
    "ablations-llmesr": ablations("ablations-llmesr", LLMESR_ABLATIONS),
}

if __name__ == "__main__":
    main()
