"""Malformed data sets with every kind of model: the right data, or one line that says why not.

    python tests/campaigns/data_sets.py --seed 0 --rounds 2

Each mutation of the tiny data set says what a right reading of it holds, or that there is none. A
run makes the configuration, the data set with the vectors of its texts, and the loaders. It must
end with the users, items and interactions of the right reading, or in a ValueError of one line.
Models that read the malformed file must refuse a data set without a right reading.
"""

from __future__ import annotations

import argparse
import gzip
import json
import logging
import tempfile
import warnings
import zipfile
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np

from recbole_llm import testing
from recbole_llm.core.config import Config
from recbole_llm.core.plugins import loading
from recbole_llm.data.create import create_dataset
from recbole_llm.steps import load_data

Rows = list[list[str]]  # a header and the records
Tables = dict[str, Rows]
Writer = Callable[[Rows, Any], str | bytes]
SUFFIXES = ("inter", "item", "user")
CTR = {
    "load_col": {"inter": ["user_id", "item_id", "rating", "timestamp"], "user": ["user_id", "age"],
                 "item": ["item_id", "title", "genre", "price"]},
    "threshold": {"rating": 3}, "numerical_features": ["price"],
}  # fmt: skip
MODELS: dict[str, dict[str, Any]] = {"SASRec": {}, "LightGCN": {}, "DIN": CTR, "AlphaRec": {}}
READS = {"inter": set(MODELS), "item": {"DIN", "AlphaRec"}, "user": {"DIN"}}


@dataclass
class Case:
    """A malformed data set.

    Args:
        files: the bytes of each file, by suffix.
        right: the tables of its right reading; None if it has no right reading.
        readers: the models that read what is malformed.
    """

    files: dict[str, bytes]
    right: Tables | None
    readers: set[str] = field(default_factory=lambda: READS["inter"])


def text(rows: Rows, separator: str = "\t", end: str = "\n") -> str:
    return end.join(separator.join(row) for row in rows) + end


def files(tables: Tables, **other: bytes) -> dict[str, bytes]:
    return {suffix: text(rows).encode() for suffix, rows in tables.items()} | other


def renamed(tables: Tables, column: str, old: str, new: str) -> Tables:
    """Rename an id in all files."""
    changed: Tables = {}
    for suffix, rows in tables.items():
        places = [i for i, name in enumerate(rows[0]) if name == f"{column}:token"]
        changed[suffix] = [
            [new if i in places and value == old else value for i, value in enumerate(row)]
            for row in rows
        ]
    return changed


def ids(name: str, readable: bool = True) -> Iterator[Callable[..., Case]]:
    """Mutations that rename an item or a user; an unreadable name is given to one record only."""
    for column in ("item_id", "user_id"):

        def mutate(tables: Tables, rng: Any, column: str = column) -> Case:
            at = tables["inter"][0].index(f"{column}:token")
            row = tables["inter"][int(rng.integers(1, len(tables["inter"])))]
            if readable:
                right = renamed(tables, column, row[at], name)
                return Case(files(right), right)
            row[at] = name
            return Case(files(tables), None)

        yield mutate


def cell(suffix: str, column: str, value: str, readable: bool = False) -> Callable[..., Case]:
    """Replace one value of a file."""

    def mutate(tables: Tables, rng: Any) -> Case:
        rows = tables[suffix]
        at = rows[0].index(column)
        rows[int(rng.integers(1, len(rows)))][at] = value
        # AlphaRec reads every value of the item file as text.
        readers = READS[suffix] - {"AlphaRec"} if suffix == "item" else READS[suffix]
        return Case(files(tables), tables if readable else None, readers)

    return mutate


def header(suffix: str, old: str, new: str) -> Callable[..., Case]:
    """Replace a field of a header."""

    def mutate(tables: Tables, rng: Any) -> Case:
        tables[suffix][0][tables[suffix][0].index(old)] = new
        return Case(files(tables), None, READS[suffix])

    return mutate


def written(suffix: str, write: Writer, readable: bool = False) -> Callable[..., Case]:
    """Write a file in another way."""

    def mutate(tables: Tables, rng: Any) -> Case:
        found = write(tables[suffix], rng)
        raw = found.encode() if isinstance(found, str) else found
        # AlphaRec reads texts, in which a zero byte is a character like any other.
        readers = READS[suffix] - {"AlphaRec"} if raw.count(0) == 1 else READS[suffix]
        return Case(files(tables, **{suffix: raw}), tables if readable else None, readers)

    return mutate


def line(change: Callable[[str], str]) -> Writer:
    """Change one line of a file."""

    def write(rows: Rows, rng: Any) -> str:
        lines = text(rows).splitlines(keepends=True)
        number = int(rng.integers(1, len(lines) - 1))  # not the last
        lines[number] = change(lines[number].removesuffix("\n")) + "\n"
        return "".join(lines)

    return write


def _zipped(rows: Rows, rng: Any) -> bytes:
    buffer = BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("tiny.inter", text(rows))
    return buffer.getvalue()


def _open_quotes(rows: Rows, rng: Any) -> str:
    """A quote that opens in one record and closes in a later one."""
    first, last = sorted(rng.choice(np.arange(1, len(rows)), 2, replace=False))
    copy = [list(row) for row in rows]
    copy[first][1], copy[last][1] = f'"{copy[first][1]}', f'"{copy[last][1]}'
    return text(copy)


def _twice(suffix: str) -> Callable[..., Case]:
    """Repeat a record, which adds an interaction but no item or user."""

    def mutate(tables: Tables, rng: Any) -> Case:
        rows = tables[suffix]
        rows.append(list(rows[int(rng.integers(1, len(rows)))]))
        return Case(files(tables), tables)

    return mutate


WRITINGS: dict[str, tuple[Writer, bool]] = {
    "no types": (lambda r, _: text([[f.split(":")[0] for f in r[0]], *r[1:]]), False),
    "no header": (lambda r, _: text(r[1:]), False),
    "tab ends the header": (lambda r, _: text([[*r[0], ""], *r[1:]]), False),
    "tab ends a line": (line(lambda row: row + "\t"), False),
    "tab ends all lines": (lambda r, _: text([[*row, ""] for row in r]), False),
    "value left out": (line(lambda row: row.rpartition("\t")[0]), False),
    "value too many": (line(lambda row: f"7\t{row}"), False),
    "line cut short": (line(lambda row: row[: row.index("\t") + 1]), False),
    "two lines in one": (lambda r, g: text(r).replace("\n", "\t", 3), False),
    "commas": (lambda r, _: text(r, ","), False),
    "semicolons": (lambda r, _: text(r, ";"), False),
    "spaces": (lambda r, _: text(r, " "), False),
    "commas in a line": (line(lambda row: row.replace("\t", ",")), False),
    "utf-16": (lambda r, _: text(r).encode("utf-16"), False),
    "utf-16 without mark": (lambda r, _: text(r).encode("utf-16-be"), False),
    "latin-1": (lambda r, _: text([*r[:-1], [f"é{v}" for v in r[-1]]]).encode("latin-1"), False),
    "gzip": (lambda r, _: gzip.compress(text(r).encode(), mtime=0), False),
    "zip": (_zipped, False),
    "zero bytes": (line(lambda row: row + "\0"), False),
    "empty": (lambda r, _: b"", False),
    "open quote": (line(lambda row: f'"{row}'), False),
    "quote over lines": (_open_quotes, False),
    "byte order mark": (lambda r, _: "\ufeff" + text(r), True),
    "windows line ends": (lambda r, _: text(r, end="\r\n"), True),
    "old line ends": (lambda r, _: text(r, end="\r"), True),
    "no last line end": (lambda r, _: text(r)[:-1], True),
    "blank lines": (lambda r, _: text(r, end="\n\n"), True),
    "all quoted": (lambda r, _: text([r[0], *([f'"{v}"' for v in row] for row in r[1:])]), True),
}


NAMES = ("NA", "nan", "None", "null", "N/A", "007", " i", 'i"3', "ü", "a\u2028b", "🎬", "#1")
NO_TIMES = ("", "nan", "NA", "inf", "-inf", "1e300", "2021-03-04", "12:30", "soon", "1,5")
TIMES = ("-5", "0", "1e9", "1000.5", " 7")
FIELDS = {
    "type int": ("rating:float", "rating:int"),
    "type Token": ("user_id:token", "user_id:Token"),
    "user_id of float": ("user_id:token", "user_id:float"),
    "timestamp of token": ("timestamp:float", "timestamp:token"),
    "column twice": ("rating:float", "item_id:token"),
    "no item_id": ("item_id:token", "thing:token"),
}


def mutations() -> dict[str, Callable[..., Case]]:
    """Name -> mutation ``(tables, rng) -> Case``, which may change the tables."""
    found: dict[str, Callable[..., Case]] = {"nothing": lambda t, _: Case(files(t), t)}
    for suffix in SUFFIXES:
        for name, way in WRITINGS.items():
            found[f"{suffix}: {name}"] = written(suffix, *way)
        found[f"{suffix}: record twice"] = _twice(suffix)
    for name in (*NAMES, "", "[PAD]"):
        for column, mutate in zip(("item", "user"), ids(name, name in NAMES), strict=True):
            found[f"{column} {name!r}"] = mutate
    for value in NO_TIMES + TIMES:
        found[f"timestamp {value!r}"] = cell("inter", "timestamp:float", value, value in TIMES)
    for value in ("five", "inf", "1e39"):
        found[f"rating {value!r}"] = cell("inter", "rating:float", value)
    found |= {name: header("inter", *change) for name, change in FIELDS.items()}
    return found | {
        "price 'cheap'": cell("item", "price:float", "cheap"),
        "price ''": cell("item", "price:float", "", readable=True),
        "genre ''": cell("item", "genre:token", "", readable=True),
        "age 'NA'": cell("user", "age:token", "NA", readable=True),
        "inter: header alone": written("inter", lambda r, _: text(r[:1])),
    }


def expected(case: Case, model: str) -> tuple[int, int, int]:
    """Users, items and interactions of the right reading."""
    assert case.right is not None
    loaded = {"inter", "item", "user"} if model == "DIN" else {"inter"}
    tokens: dict[str, set[str]] = {"user_id:token": set(), "item_id:token": set()}
    for suffix in loaded:
        rows = case.right[suffix]
        for column, own in tokens.items():
            if column in rows[0]:
                own.update(row[rows[0].index(column)] for row in rows[1:])
    return (*map(len, tokens.values()), len(case.right["inter"]) - 1)  # type: ignore[return-value]


def run(folder: Path, model: str, case: Case) -> str:
    """Return loaded, refused, or what went wrong."""
    target = folder / "tiny"
    for suffix, raw in case.files.items():
        (target / f"tiny.{suffix}").write_bytes(raw)
    settings = {"data_path": str(folder), "encoder": "hash", "MAX_ITEM_LIST_LENGTH": 10,
                "show_progress": False, "epochs": 1, "checkpoint_dir": str(folder / "saved"),
                "embedding_cache_dir": str(folder / "cache"), **MODELS[model]}  # fmt: skip
    try:
        config = Config(model, "tiny", config_dict=settings)
        dataset = create_dataset(config)
        counts = (dataset.user_num - 1, dataset.item_num - 1, dataset.inter_num)
        load_data(config)
    except ValueError as error:
        return f"ValueError of several lines: {error}" if "\n" in str(error) else "refused"
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    if case.right is None:
        return "silently read" if model in case.readers else "loaded"
    if counts != expected(case, model):
        return f"silently changed: {counts} in place of {expected(case, model)}"
    return "loaded"


def campaign(seed: int = 0, rounds: int = 1) -> dict[str, Any]:
    """Run all mutations; return the number of runs by outcome, and each run that went wrong."""
    logging.disable(logging.WARNING)
    warnings.simplefilter("ignore")
    if "hash" not in loading.list_encoders():
        loading.get_plugins().register(testing, testing.__name__)
    outcomes: Counter[str] = Counter()
    wrong, refused = {}, set()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        source = testing.write_tiny_dataset(folder)
        plain = {s: (source / f"tiny.{s}").read_text(encoding="utf-8") for s in SUFFIXES}
        for number, (title, mutate) in enumerate(list(mutations().items()) * rounds):
            tables = {s: [r.split("\t") for r in t.splitlines()] for s, t in plain.items()}
            case = mutate(tables, np.random.default_rng([seed, number]))
            for model in MODELS:
                outcome = run(folder, model, case)
                kind = outcome if outcome in ("loaded", "refused") else "wrong"
                outcomes[kind] += 1
                if kind == "wrong":
                    wrong[f"{title} ({model}, {number})"] = outcome
                elif kind == "refused" and case.right is not None:
                    refused.add(f"{title} ({model})")
    logging.disable(logging.NOTSET)
    return {"mutations": len(mutations()), "runs": dict(outcomes), "wrong": wrong,
            "refused, though it can be read": sorted(refused)}  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--rounds", type=int, default=1)
    arguments = parser.parse_args()
    print(json.dumps(campaign(arguments.seed, arguments.rounds), indent=1, ensure_ascii=False))


if __name__ == "__main__":
    main()
