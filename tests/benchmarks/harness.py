"""Run the variants of a benchmark in turn, each in its own process; write medians and ratios."""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import os
import platform
import resource
import statistics
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

PACKAGES = ("recbole", "torch", "numpy", "pandas", "scipy")
MARK = "RESULT "


def parser(description: str) -> argparse.ArgumentParser:
    """Arguments that every benchmark takes."""
    result = argparse.ArgumentParser(description=description)
    result.add_argument("--rounds", type=int, default=3, help="runs of each variant, in turn")
    result.add_argument("--out", type=Path, help="JSON file to write")
    result.add_argument("--child", help=argparse.SUPPRESS)
    return result


def report(result: dict[str, Any]) -> None:
    """Hand a child's result to its parent."""
    print(MARK + json.dumps(result), flush=True)


def run_child(script: str, variant: str, arguments: Sequence[str]) -> dict[str, Any]:
    """Result of one variant, run in a new process."""
    root = str(Path(__file__).resolve().parents[2])
    path = os.pathsep.join(filter(None, [root, os.environ.get("PYTHONPATH")]))
    command = [sys.executable, "-W", "ignore", script, "--child", variant, *arguments]
    done = subprocess.run(
        command, env={**os.environ, "PYTHONPATH": path}, capture_output=True, text=True, check=False
    )
    lines = [line for line in done.stdout.splitlines() if line.startswith(MARK)]
    if done.returncode or not lines:
        raise RuntimeError(f"{variant}: exit {done.returncode}\n{done.stderr[-3000:]}")
    result: dict[str, Any] = json.loads(lines[-1].removeprefix(MARK))
    return result


def compare(
    script: str, variants: Sequence[str], arguments: Sequence[str], rounds: int
) -> dict[str, Any]:
    """Run the variants in turn; return medians, and the first variant's divided by the others'."""
    runs: dict[str, list[dict[str, Any]]] = {variant: [] for variant in variants}
    for _ in range(rounds):
        for variant in variants:
            runs[variant].append(run_child(script, variant, arguments))
            print(f"{variant}: {runs[variant][-1]}", file=sys.stderr, flush=True)
    medians = {
        variant: {
            key: statistics.median(run[key] for run in results)
            for key, value in results[0].items()
            if isinstance(value, (int, float)) and not isinstance(value, bool)
        }
        for variant, results in runs.items()
    }
    first = medians[variants[0]]
    ratios = {
        variant: {k: first[k] / medians[variant][k] for k in first if medians[variant].get(k)}
        for variant in variants[1:]
    }
    return {"medians": medians, "ratios": ratios, "runs": runs}


def machine() -> dict[str, Any]:
    """What the numbers were measured on."""
    import torch

    return {
        "platform": platform.platform(),
        "processor": _processor(),
        "cpus": os.cpu_count(),
        "torch_threads": torch.get_num_threads(),
        "python": platform.python_version(),
        **{name: importlib.metadata.version(name) for name in PACKAGES},
    }


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    if info.is_file():
        for line in info.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor()


def write(result: dict[str, Any], out: Path | None) -> None:
    """Print the result, and write it where asked."""
    text = json.dumps({"machine": machine(), **result}, indent=2)
    print(text)
    if out is not None:
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_text(text + "\n", encoding="utf-8")


def reset_peak() -> float:
    """Reset the peak where the system can (Linux); return the memory in use now, in MiB."""
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return _status("VmRSS")


def peak() -> float:
    """Peak memory since `reset_peak`, MiB; since the start where the system cannot reset it."""
    try:
        return _status("VmHWM")
    except OSError:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def _status(field: str) -> float:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(field):
            return int(line.split()[1]) / 1024
    raise OSError(field)
