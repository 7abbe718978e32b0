"""Write the runs of comparisons into one of the JSON files in this folder.

    python results/raw.py comparison/result.json more/result.json --commit=1a2b3c4 \\
        --machine="…" --out=clicks.json

The tables are made from these files. For each run, a file holds the command, the digests of the
data, the scores and the times, but no local paths.
"""

from __future__ import annotations

import argparse
import json
import re
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent
KEPT = (
    "data", "best_valid_score", "best_valid_result", "test_result", "peak_memory_mib", "versions",
)  # fmt: skip
LOCAL = ("--data_path=", "--config_files=/", "--embedding_path=")


def run_of(run: dict[str, Any], arguments: list[str], seed: int) -> dict[str, Any]:
    """Return the part of a run that is stored."""
    named = [re.sub("^--config_files=.*/(?=properties/)", "--config_files=", a) for a in arguments]
    own = [argument for argument in named if not argument.startswith(LOCAL)]
    return {
        "command": [*own, f"--seed={seed}"],
        **{key: run[key] for key in KEPT},
        "valid_scores": [score for t in run["trainings"] for *_, score in t["curve"]],
        "seconds": run["seconds"],
    }


def main() -> None:
    """Read the comparisons and write the file."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("comparisons", nargs="+", type=Path)
    parser.add_argument("--commit", required=True, help="commit of the code that ran")
    parser.add_argument("--machine", required=True, help="the machine and its other work")
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
