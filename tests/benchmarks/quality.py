"""Test metrics of several configurations, mean and deviation over seeds, as JSON and Markdown.

    python tests/benchmarks/quality.py --out results/prime-pantry.json \\
        --common "--dataset=prime-pantry --data_path=data --encoder=bundled" \\
        --run "SASRec: --model=SASRec" --run "LLM-ESR: --model=LLMESR"

Each run is a process of its own. Runs that the JSON file holds already are not repeated, so a
killed call goes on where it was, and a further --run adds to the table. The best epoch is chosen
on validation; the test split is read once a run.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import harness


def main() -> None:
    if "--child" in sys.argv:
        harness.report(one_run(sys.argv[sys.argv.index("--child") + 2 :]))
        return
    arguments = parse()
    for spec in arguments.run:
        name, _, options = spec.partition(":")
        for seed in arguments.seeds.split(","):
            command = [*options.split(), *arguments.common.split(), f"--seed={seed}"]
            key = f"{name.strip()} / {seed}"
            if read_runs(arguments.out).get(key, {}).get("command") != command:
                result = harness.run_child(__file__, "run", _absolute(command))
                runs = {**read_runs(arguments.out), key: {"command": command, **result}}
                write_runs(arguments.out, runs)
            print(key, read_runs(arguments.out)[key]["test_result"], file=sys.stderr, flush=True)
    print(table(read_runs(arguments.out), arguments.metrics.split(",")))


def read_runs(out: Path) -> dict[str, Any]:
    """The runs that are done; read anew for each, so that several calls can share a file."""
    runs: dict[str, Any] = json.loads(out.read_text())["runs"] if out.exists() else {}
    return runs


def write_runs(out: Path, runs: dict[str, Any]) -> None:
    """Write all runs, in one step."""
    out.parent.mkdir(parents=True, exist_ok=True)
    part = out.with_suffix(f".{os.getpid()}")
    whole = {"machine": harness.machine(), "runs": runs}
    part.write_text(json.dumps(whole, indent=1) + "\n", encoding="utf-8")
    part.replace(out)


def parse() -> argparse.Namespace:
    parser = harness.parser(__doc__ or "")
    parser.add_argument("--run", action="append", required=True, help="'name: --key=value …'")
    parser.add_argument("--common", default="", help="arguments of every run")
    parser.add_argument("--seeds", default="2020,2021,2022")
    parser.add_argument("--metrics", default="ndcg@10,recall@10")
    arguments = parser.parse_args()
    if arguments.out is None:
        parser.error("--out is needed: it holds the runs that are done")
    return arguments


def one_run(argv: list[str]) -> dict[str, Any]:
    """Train and test in a folder of its own; results, validation score by epoch, seconds."""
    from recbole.trainer import Trainer

    from recbole_llm import run_recbole_llm

    scores: list[float] = []
    validate = Trainer._valid_epoch

    def noted(self: Any, *args: Any, **kwargs: Any) -> Any:
        score, result = validate(self, *args, **kwargs)
        scores.append(score)
        return score, result

    Trainer._valid_epoch = noted
    start = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        result = run_recbole_llm(argv=[*argv, "--show_progress=False", "--log_flops=False"])
        os.chdir("/")
    result.pop("checkpoint")
    return {**result, "valid_scores": scores, "seconds": round(time.perf_counter() - start, 1)}


def _absolute(command: list[str]) -> list[str]:
    flag = "--data_path="
    return [flag + os.path.abspath(c[len(flag) :]) if c.startswith(flag) else c for c in command]


def table(runs: dict[str, Any], metrics: list[str]) -> str:
    """Mean ± sample standard deviation over seeds, one line per configuration."""
    head = ["configuration", "seeds", f"valid {metrics[0]}", *metrics, "best epoch", "seconds"]
    lines = [head, ["---"] * len(head)]
    for name in dict.fromkeys(key.rpartition(" / ")[0] for key in runs):
        own = [run for key, run in runs.items() if key.rpartition(" / ")[0] == name]
        cells = [spread([r["best_valid_result"][metrics[0]] for r in own])]
        cells += [spread([r["test_result"].get(m, float("nan")) for r in own]) for m in metrics]
        best = [1 + r["valid_scores"].index(max(r["valid_scores"])) for r in own]
        times = [r["seconds"] for r in own]
        cells += [f"{statistics.mean(values):.0f}" for values in (best, times)]
        lines.append([name, str(len(own)), *cells])
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def spread(values: list[float]) -> str:
    deviation = statistics.stdev(values) if len(values) > 1 else 0.0
    return f"{statistics.mean(values):.4f} ± {deviation:.4f}"


if __name__ == "__main__":
    main()
