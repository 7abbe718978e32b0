"""Processes to kill, and trainings to be killed; for ``kill_points.py`` and ``kills.py``.

Children are forked, so that each starts at once. The parent has to be single-threaded:
run the scripts with OMP_NUM_THREADS=1.
"""

from __future__ import annotations

import json
import os
import signal
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch._dynamo  # noqa: F401 (every child would import it: its first optimizer does)
from recbole.trainer import Trainer as RecBoleTrainer

from recbole_llm import testing
from recbole_llm.core.checkpoints.checkpoint import load_checkpoint
from recbole_llm.core.plugins import loading
from recbole_llm.hookspecs import hookimpl
from recbole_llm.quick_start import run_recbole_llm

LOG = "epochs.log"  # of all processes that trained in a folder, one after the other
Work = Callable[[], None]
SMALL = {
    "data_path": "../dataset", "encoder": "hash", "epochs": 4, "stopping_step": 10,
    "train_batch_size": 64, "show_progress": False, "MAX_ITEM_LIST_LENGTH": 10,
}  # fmt: skip
RANKING = {"metrics": ["NDCG"], "valid_metric": "NDCG@10"}
TEXT = {**RANKING, "hidden_size": 8, "inner_size": 8}
CASES: dict[str, dict[str, Any]] = {
    "SASRec, sequences": {"model": "SASRec", "hidden_size": 8, "inner_size": 8, **RANKING},
    "SASRec, prefixes": {"model": "SASRec", "train_level": "prefix", **TEXT},
    "PAD": {"model": "PAD", "n_bins": 3, **TEXT, "epochs": 3},
    "LLMESR, exact": {"model": "LLMESR", **TEXT},
    "LLMESR, bank": {"model": "LLMESR", "teacher": "bank", **TEXT},
    "AlphaRec": {"model": "AlphaRec", **RANKING},
    "BPR": {"model": "BPR", **RANKING},
    "MultiVAE": {"model": "MultiVAE", "total_anneal_steps": 100, **RANKING, "train_batch_size": 10},
    "RecVAE": {"model": "RecVAE", **RANKING, "epochs": 2, "train_batch_size": 20},
    "DIN": {
        "model": "DIN", "load_col": {"inter": ["user_id", "item_id", "rating", "timestamp"]},
        "threshold": {"rating": 3}, "metrics": ["AUC"], "valid_metric": "AUC",
        "eval_args": {"split": {"RS": [0.6, 0.2, 0.2]}, "order": "TO", "mode": "labeled"},
    },
}  # fmt: skip


def prepare(folder: Path) -> None:
    """Write the data set of all trainings into ``folder``, and register the fake encoder."""
    testing.write_tiny_dataset(folder / "dataset")
    if "hash" not in loading.list_encoders():
        loading.get_plugins().register(testing, testing.__name__)
        loading.get_plugins().register(Ends(), __name__)
    os.environ["RECBOLE_LLM_CACHE"] = str(folder / "cache")


def start(work: Work) -> int:
    """Fork a child that does the work; its exit status is 0 if it finished."""
    child = os.fork()
    if child:
        return child
    status = 1
    try:
        torch.set_num_threads(1)
        terminal = os.dup(2)
        sink = os.open(os.devnull, os.O_WRONLY)
        os.dup2(sink, 1)
        os.dup2(sink, 2)  # RecBole's log
        work()
        status = 0
    except BaseException:  # noqa: BLE001
        os.write(terminal, traceback.format_exc().encode())
    finally:
        os._exit(status)


def finished(child: int) -> bool:
    """Wait for a child; return whether it finished (False: it was killed; an error: it broke)."""
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    assert status in (0, -signal.SIGKILL), f"a process broke with status {status}"
    return status == 0


def killed_after(child: int, seconds: float) -> bool:
    """Kill a child after some seconds; return whether it was still running."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if os.waitid(os.P_PID, child, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None:
            break
        time.sleep(0.001)
    os.kill(child, signal.SIGKILL)  # a child that has ended is a zombie, and is not harmed
    return not finished(child)


def train(case: str, folder: Path) -> None:
    """Train in a folder, resume if it holds a file to resume from, and write the result there."""
    folder.mkdir(exist_ok=True)
    os.chdir(folder)
    _note("start")
    _note_epochs()
    resumed = sorted(str(file) for file in Path("saved").glob("*-last.pth"))
    config = {**SMALL, **CASES[case], "resume": resumed[0] if resumed else None}
    model = config.pop("model")
    result = run_recbole_llm(model, "tiny", config_dict=config)
    Path("result.json").write_text(json.dumps(result), encoding="utf-8")


class Ends:
    """Notes the end of a run while its file to resume from is still there.

    A note after the run would come too late if a kill fell between the two: the next run starts
    anew, and its epochs would count as lost.
    """

    @hookimpl
    def on_result(self) -> None:
        _note("end")


def _note(line: str) -> None:
    with Path(LOG).open("a", encoding="utf-8") as log:
        log.write(f"{line}\n")


def _note_epochs() -> None:
    """Note the phase and number of each epoch that begins."""
    epoch = RecBoleTrainer._train_epoch

    def noted(self: Any, data: Any, number: int, *args: Any, **kwargs: Any) -> Any:
        _note(f"{getattr(self.model, 'phase', 'epoch')} {number}")
        return epoch(self, data, number, *args, **kwargs)

    RecBoleTrainer._train_epoch = noted


def damaged(folder: Path) -> list[str]:
    """The errors of checkpoints that do not load."""
    faults = []
    for file in (folder / "saved").glob("*.pth"):
        try:
            load_checkpoint(file)
        except ValueError as error:
            faults.append(str(error))
    return faults


def differences(whole: Path, other: Path) -> list[str]:
    """What two finished runs differ in: results, files, weights and optimizer states."""
    results = [json.loads((f / "result.json").read_text(encoding="utf-8")) for f in (whole, other)]
    files = [Path(result.pop("checkpoint")) for result in results]
    faults = [] if results[0] == results[1] else [f"results {results[0]} and {results[1]}"]
    named = [
        {f.name.replace(own.stem, "run"): f for f in (folder / "saved").glob(f"{own.stem}*.pth")}
        for folder, own in zip((whole, other), files, strict=True)
    ]
    if named[0].keys() != named[1].keys():
        return [*faults, f"files {sorted(named[0])} and {sorted(named[1])}"]
    for name in named[0]:
        first, second = (load_checkpoint(files[name]) for files in named)
        for key in ("epoch", "cur_step", "best_valid_score", "state_dict", "optimizer"):
            if not same(first[key], second[key]):
                faults.append(f"{name}: {key}")
    return faults


def same(a: Any, b: Any) -> bool:
    """Equality to the last bit, at any depth."""
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[k], b[k]) for k in a)
    if isinstance(a, list):
        return len(a) == len(b) and all(map(same, a, b))
    return bool(a.equal(b)) if isinstance(a, torch.Tensor) else bool(a == b)
