"""Writes the runs of comparisons as one of the JSON files beside this one.

    python results/raw.py comparison/result.json more/result.json --commit=1a2b3c4 \\
        --machine="…" --out=clicks.json

Tables are made of it. Of each run: its command, its data's digests, what it scored, how long it
took; no paths of this machine.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent
KEPT = (
    "data", "best_valid_score", "best_valid_result", "test_result", "peak_memory_mib", "versions",
)  # fmt: skip
LOCAL = ("--data_path=", "--config_files=", "--embedding_path=")


def run_of(run: dict[str, Any], arguments: list[str], seed: int) -> dict[str, Any]:
    """What is kept of a run."""
    own = [argument for argument in arguments if not argument.startswith(LOCAL)]
    return {
        "command": [*own, f"--seed={seed}"],
        **{key: run[key] for key in KEPT},
        "valid_scores": [score for t in run["trainings"] for *_, score in t["curve"]],
        "seconds": run["seconds"],
    }


def main() -> None:
    """Reads the comparisons and writes the file."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("comparisons", nargs="+", type=Path)
    parser.add_argument("--commit", required=True, help="of the code that ran")
    parser.add_argument("--machine", required=True, help="and what else it did")
    parser.add_argument("--out", required=True, help="name of the file")
    options = parser.parse_args()
    runs: dict[str, Any] = {}
    tests: list[Any] = []
    for file in options.comparisons:
        found = json.loads(file.read_text("utf-8"))
        tests += [{**test, "baseline": found["baseline"]} for test in found["tests"]]
        for row in found["rows"]:
            for run, seed in zip(row["runs"], row["seeds"], strict=True):
                runs[f"{row['label']} / {seed}"] = run_of(run, row["arguments"], seed)
    about = {"commit": options.commit, "machine": options.machine}
    content = {**about, "runs": runs, "tests": tests}
    text = json.dumps(content, indent=1, ensure_ascii=False)
    (RESULTS / options.out).write_text(f"{text}\n", encoding="utf-8")


if __name__ == "__main__":
    main()
