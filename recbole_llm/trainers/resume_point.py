"""The point from which a training resumes, as a checkpoint holds it."""

from __future__ import annotations

from dataclasses import dataclass, field
from math import nan
from pathlib import Path
from typing import Any

from recbole.config import Config

from recbole_llm.core.checkpoints.checkpoint import STOPPED, load_checkpoint, require
from recbole_llm.core.checkpoints.stored import NEVER_STORED, plain_config
from recbole_llm.core.checkpoints.tokens import Packed
from recbole_llm.core.digest import fingerprints
from recbole_llm.core.errors import and_more
from recbole_llm.core.marks import Mark
from recbole_llm.core.processes import distributed

PARTS = ("state_dict", "optimizer", "epoch", "cur_step", "best_valid_score")
_STATE = (
    "file", "files", "worker", "best", "result", "losses", "trainings", "optimizers", "model",
    "random",
)  # fmt: skip
_ATOMIC = (".inter", ".user", ".item", ".kg", ".link", ".net")


@dataclass(frozen=True)
class ResumePoint:
    """Where a checkpoint's training was; the defaults are for a training that resumes nothing."""

    tokens: Packed | None = None  # names of the ids that the weights belong to
    trained_on: str | None = None  # digest of the training data
    optimizer: dict[str, Any] = field(default_factory=dict)
    epoch: int = -1  # the last one that was trained
    cur_step: int = 0
    best_valid_score: float = nan
    state: dict[str, Any] | None = None  # what a stopped run adds to RecBole's checkpoint

    @classmethod
    def from_checkpoint(cls, checkpoint: dict[str, Any]) -> ResumePoint:
        """The point of any checkpoint that has `PARTS`, of a stopped run or not."""
        return cls(
            tokens=checkpoint.get("tokens"),
            trained_on=checkpoint.get("trained_on"),
            optimizer=checkpoint["optimizer"],
            epoch=checkpoint["epoch"],
            cur_step=checkpoint["cur_step"],
            best_valid_score=checkpoint["best_valid_score"],
            state=checkpoint.get(STOPPED),
        )


def part_file(run_file: str, part: str) -> str:
    """A further checkpoint of a run: ``saved/PAD-x.pth`` -> ``saved/PAD-x-align.pth``."""
    path = Path(run_file)
    return str(path.with_name(f"{path.stem}-{part}{path.suffix}"))


def load_run(file: str, config: Config) -> dict[str, Any]:
    """The checkpoint from which a run is resumed.

    Raises:
        ValueError: it is missing or damaged, does not say where a run stopped, has another model,
            data set, files, setting or number of processes, or lacks its best weights beside it.
    """
    checkpoint = load_checkpoint(file)
    state = checkpoint.get(STOPPED)
    if not isinstance(state, dict):
        raise ValueError(
            f"resume: '{file}' holds a model but not where its run stopped, which is in "
            f"<model>-…-last.pth until the run ends"
        )
    require(checkpoint, PARTS, file)
    require(state, _STATE, file)
    present = plain_config(config, NEVER_STORED | Mark.NO_EFFECT_ON_RESULTS) | {
        "worker": config["worker"]
    }
    _check_same_settings(checkpoint["config"] | {"worker": state["worker"]}, present, file)
    then, now = len(state["random"]), distributed.world_size()
    if then != now:
        raise ValueError(f"resume: '{file}' is of a run of {then} processes, not {now}")
    # Before the model is built: with other items, its tables have another shape.
    if any(state["files"].get(name) != now for name, now in atomic_digests(config).items()):
        raise other_data_error(file)
    best = file_beside(file, state["best"])
    if state["result"] is not None and not best.is_file():
        raise ValueError(f"resume: '{best}', the best weights of '{file}', is gone; start anew")
    return checkpoint


def _check_same_settings(then: dict[str, Any], now: dict[str, Any], file: str) -> None:
    other = [k for k in sorted(then.keys() & now.keys()) if then[k] != now[k]]
    other = [k for k in ("model", "dataset") if k in other] or other
    if other:
        listed = ", ".join(f"{k}: {then[k]!r} (now {now[k]!r})" for k in other[:3])
        listed += and_more(other, 3)
        raise ValueError(
            f"resume: '{file}' is of a run with {listed}; repeat that run's command with "
            f"--resume={file}"
        )


def atomic_digests(config: Config) -> dict[str, str]:
    """Digests of the data set's atomic files."""
    return fingerprints(config["data_path"], config["dataset"], _ATOMIC)


def other_data_error(file: str | None) -> ValueError:
    """The error for a run to resume whose data has changed."""
    return ValueError(
        f"resume: '{file}' is of a run on other data: files or pictures have changed since; use "
        f"them as they were, or start anew"
    )


def file_beside(file: str, name: str) -> Path:
    """The path of a file that a checkpoint names, always in the checkpoint's folder."""
    return Path(file).with_name(Path(name).name)
