"""Work killed at random moments, over and over until it is done: what is lost, what is damaged?

``OMP_NUM_THREADS=1 python tests/campaigns/kills.py [--kills=50] [--seed=0]`` prints the counts of
each kind of work: kills, finished units that had to be done again, damaged files, and whether the
result equals that of uninterrupted work.
"""

from __future__ import annotations

import argparse
import json
import random
import sqlite3
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import numpy as np
from killing import LOG, Work, damaged, differences, finished, killed_after, prepare, start, train

from recbole_llm.features.pipeline import encode_contents
from recbole_llm.features.stored.store import FILE_NAME
from recbole_llm.features.stored.vectors import EmbeddingStore
from recbole_llm.offline.generate import TEXTS, GenerateStage
from recbole_llm.offline.generators import Generator
from recbole_llm.testing import HashEncoder

BATCH = 5
ITEMS = [f"text {i}" for i in range(600)]
PAUSE = 0.01  # seconds per batch


@dataclass
class Tally:
    """The outcome of killing one kind of work."""

    name: str
    kills: int = 0
    lost: int = 0
    faults: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        line = f"{self.name}: {self.kills} kills, {self.lost} finished units lost"
        return "\n  ".join([f"{line}, {len(self.faults)} faults", *self.faults])


def until_done(work: Work, kills: int, longest: float, look: Callable[[], list[str]]) -> Tally:
    """Kill the work after random times, check what it left, restart it; at last let it finish."""
    tally = Tally("")
    for _ in range(kills):
        if killed_after(start(work), random.uniform(0, longest)):
            tally.kills += 1
        tally.faults += look()
    if not finished(start(work)):
        tally.faults.append("the last run was killed")
    return tally


def seconds_of(work: Work) -> float:
    """The seconds that the work takes without a kill."""
    begin = time.monotonic()
    assert finished(start(work))
    return time.monotonic() - begin


# --- the store -------------------------------------------------------------------------------


class Slow(HashEncoder, Generator):
    """An encoder and generator that logs its texts, and is slow enough to be killed."""

    batch_size = BATCH  # of its answers

    def __init__(self, log: Path) -> None:
        super().__init__(8)
        self.log = log

    def encode(self, texts: Sequence[str]) -> np.ndarray:
        self._note(texts)
        return super().encode(texts)

    def generate(self, prompts: Sequence[str]) -> list[str]:
        self._note(prompts)
        return [f"about {prompt}" for prompt in prompts]

    def _note(self, texts: Sequence[str]) -> None:
        with self.log.open("a", encoding="utf-8") as log:
            log.write("".join(f"{text}\n" for text in texts))
        time.sleep(PAUSE)


def integrity(folder: Path) -> list[str]:
    """What SQLite finds wrong with a store."""
    if not (folder / FILE_NAME).exists():
        return []
    with closing(sqlite3.connect(folder / FILE_NAME)) as connection:
        found = [row[0] for row in connection.execute("PRAGMA integrity_check")]
    return [] if found == ["ok"] else found


def encode(folder: Path, name: str) -> None:
    """Encode all texts and leave the vectors in a file."""
    with closing(EmbeddingStore(folder)) as store:
        encoder = Slow(folder / f"{name}.log")
        matrix, _ = encode_contents(encoder, store, ITEMS, BATCH, progress=False)
    np.save(folder / f"{name}.npy", matrix)


def repeated(folder: Path, kills: int) -> int:
    """The number of texts done again, beyond the batch that each kill cuts off."""
    logs = [log.read_text(encoding="utf-8").splitlines() for log in folder.glob("*.log")]
    return max(0, sum(map(len, logs)) - len(ITEMS) - BATCH * kills)


def right_vectors(folder: Path, name: str) -> list[str]:
    equal = np.array_equal(np.load(folder / f"{name}.npy"), HashEncoder(8).encode(ITEMS))
    return [] if equal else [f"{name}: other vectors"]


def encoding(kills: int, folder: Path) -> Tally:
    """Encoding in one process."""
    folder.mkdir()
    longest = PAUSE * len(ITEMS) / BATCH / 8
    tally = until_done(lambda: encode(folder, "one"), kills, longest, lambda: integrity(folder))
    tally.name, tally.lost = "encoding", repeated(folder, tally.kills)
    tally.faults += right_vectors(folder, "one")
    return tally


def encoding_together(kills: int, folder: Path) -> Tally:
    """Three processes encode into one store; one is killed each time, and at last all finish."""
    folder.mkdir()
    tally = Tally("encoding, three processes at once")
    names = ("a", "b", "c")

    def begin() -> list[int]:
        return [start(partial(encode, folder, name)) for name in names]

    for _ in range(kills):
        children = begin()
        tally.kills += killed_after(children[0], random.uniform(0, PAUSE * len(ITEMS) / BATCH / 8))
        for child in children[1:]:
            assert finished(child)
        tally.faults += integrity(folder)
        (folder / FILE_NAME).unlink()  # the others have encoded all texts
    for child in begin():
        assert finished(child)
    for name in names:
        tally.faults += right_vectors(folder, name)
    return tally


# --- generating ------------------------------------------------------------------------------


class Opinions(GenerateStage):
    """A stage that generates one text per item."""

    name = "opinions"

    def prompts(self) -> Mapping[str, str]:
        return {text: f"What of {text}?" for text in ITEMS}

    def generators(self) -> list[Slow]:
        return [Slow(Path(self.config["embedding_cache_dir"]) / "generator.log")]


def generating(kills: int, folder: Path) -> Tally:
    """A stage that generates texts, and its artifact."""
    folder.mkdir()
    config = {"embedding_cache_dir": str(folder), "show_progress": False}

    def stage() -> Opinions:
        return Opinions(config, None)  # type: ignore[arg-type]

    def look() -> list[str]:
        half = stage().finished_units() is not None and not (stage().path / TEXTS).is_file()
        return integrity(folder) + ["an artifact without its texts"] * half

    longest = PAUSE * len(ITEMS) / BATCH / 8
    tally = until_done(lambda: print(stage().complete()), kills, longest, look)
    tally.name, tally.lost = "generating", repeated(folder, tally.kills)
    lines = (stage().path / TEXTS).read_text(encoding="utf-8").splitlines()
    if dict(map(json.loads, lines)) != {t: f"about What of {t}?" for t in ITEMS}:
        tally.faults.append("other texts")
    return tally


# --- training --------------------------------------------------------------------------------


def training(case: str, kills: int, folder: Path) -> Tally:
    """Training runs, each killed a few times until it is done, then compared with a whole run."""
    whole, tally, number = folder / f"{case}, whole", Tally(f"training {case}"), 0
    longest = seconds_of(lambda: train(case, whole)) * 0.7
    while tally.kills < kills:
        own, number = folder / f"{case}, {number}", number + 1
        part = until_done(partial(train, case, own), 3, longest, partial(damaged, own))
        tally.kills += part.kills
        tally.lost += lost_epochs(whole / LOG, own / LOG)
        tally.faults += part.faults + differences(whole, own)
    return tally


def lost_epochs(whole: Path, killed: Path) -> int:
    """The number of epochs that were trained again although the next epoch had begun."""
    order = [line for line in _lines(whole) if line not in ("start", "end")]
    lost, reached = 0, 0
    for line in _lines(killed):
        if line in order:
            lost += max(0, reached - order.index(line))
            reached = order.index(line)
        elif line == "end":  # the next lines are of another run
            reached = 0
    return lost


def _lines(file: Path) -> list[str]:
    return file.read_text(encoding="utf-8").splitlines()


def campaign(kills: int, seed: int, folder: Path) -> list[Tally]:
    """Kill each kind of work, about `kills` times in total: some work ends before it is killed."""
    random.seed(seed)
    prepare(folder)
    share = -(-kills // 10)
    return [
        encoding(3 * share, folder / "encoding"),
        encoding_together(share, folder / "together"),
        generating(2 * share, folder / "generating"),
        training("SASRec, sequences", 2 * share, folder),
        training("PAD", 2 * share, folder),
    ]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        tallies = campaign(options.kills, options.seed, Path(folder))
    print(*tallies, sep="\n")
    return int(any(tally.lost or tally.faults for tally in tallies))


if __name__ == "__main__":
    sys.exit(main())
