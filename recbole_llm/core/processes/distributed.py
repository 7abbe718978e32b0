"""Several processes as one run, started by ``torchrun``; other modules ask for ranks only here.

RecBole's own hooks for several processes stay off (``single_spec`` is True): they support only
NCCL, average metrics after rounding, and clip gradients before they are summed.

A single process may call all functions, which then do nothing. Outside of `as_one_run` every
process counts as single, so that one can load a model while the others do something else.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import cache
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from recbole_llm.core.errors import one_line
from recbole_llm.core.processes.torchrun import (
    ALONE,
    LostProcess,
    MainProcessFailed,
    ProcessRank,
    join,
    lost_processes_named,
    started_together,
)

if TYPE_CHECKING:
    import torch

T = TypeVar("T")
Batch = TypeVar("Batch", bound="Sequence[Any] | torch.Tensor")
_here = ALONE  # except within `as_one_run`
_running = False  # whether this process is within `as_one_run`


@contextmanager
def as_one_run() -> Iterator[None]:
    """Within it, the processes that ``torchrun`` started are one run; all of them must enter it.

    Raises:
        ValueError: as for `join`, or this process is already in a run of several processes.
        LostProcess: another process is gone.
    """
    global _running
    if _running and started_together():
        raise ValueError(
            "run_recbole_llm: this process is in a run of several, and another run needs all of "
            "them; call it after this run, or call objective_function instead, which trains only "
            "in this process"
        )
    with _placed(join()), lost_processes_named():
        before, _running = _running, True
        try:
            yield
        finally:
            _running = before


@contextmanager
def as_single_process() -> Iterator[None]:
    """Within it, this process counts as single, even in a run of several."""
    with _placed(ALONE):
        yield


@contextmanager
def _placed(place: ProcessRank) -> Iterator[None]:
    global _here
    before, _here = _here, place
    try:
        yield
    finally:
        _here = before


def world_size() -> int:
    """Number of processes in this run."""
    return _here.world_size


def rank() -> int:
    """Number of this process in the run, from 0."""
    return _here.rank


def local_rank() -> int:
    """Number of this process on its machine, from 0."""
    return _here.local_rank


def own_gpu(named: object = None) -> str:
    """This process's GPU, out of the named ones (``"0,2"``) or all on its machine."""
    if named is None:
        return str(local_rank())
    gpus = _gpus(named)
    return gpus[local_rank() % len(gpus)]


def check_gpus(named: object) -> None:
    """Refuse, in every process, fewer named GPUs than processes on this machine.

    Raises:
        ValueError: fewer GPUs are named than processes run here.
    """
    # Only torchrun's variable counts processes with higher ranks, too.
    processes = max(int(os.environ.get("LOCAL_WORLD_SIZE") or 1), local_rank() + 1)
    if named is not None and processes > len(_gpus(named)):
        raise ValueError(
            f"gpu_id: {named} names {len(_gpus(named))}, and {processes} processes run on this "
            f"machine; name one for each, or leave it out"
        )


def _gpus(named: object) -> list[str]:
    return [gpu.strip() for gpu in str(named).strip("()[] ").split(",")]


def is_main() -> bool:
    """Whether this is the process that writes files and logs."""
    return rank() == 0


def barrier() -> None:
    """Wait until all processes have reached this call."""
    if world_size() > 1:
        from torch import distributed

        distributed.barrier()


@contextmanager
def main_first() -> Iterator[None]:
    """Within it, the first process works alone, then the others, each on its own.

    Raises:
        MainProcessFailed: in the other processes, if the block raised in the first.
    """
    if world_size() == 1:
        yield
        return
    if not is_main() and (reason := broadcast("")):
        raise MainProcessFailed(f"the first process of this run failed: {reason}")
    try:
        with as_single_process():
            yield
    except LostProcess:  # the other processes cannot be told
        raise
    except Exception as error:
        if is_main():
            with suppress(RuntimeError):  # another process is gone; this error is the first
                broadcast(one_line(error, 2000) or type(error).__name__)
        raise
    if is_main():
        broadcast("")


def broadcast(value: T) -> T:
    """Return the first process's value in all processes."""
    if world_size() == 1:
        return value
    from torch import distributed

    values = [value]
    distributed.broadcast_object_list(values, src=0)
    return values[0]


def all_gather(value: T) -> list[T]:
    """Every process's value, in order of rank."""
    if world_size() == 1:
        return [value]
    from torch import distributed

    values: list[Any] = [None] * world_size()
    distributed.all_gather_object(values, value)
    return values


def gather_to_main(value: T) -> list[T] | None:
    """Every process's value, in order of rank; None in all processes but the first."""
    if world_size() == 1:
        return [value]
    from torch import distributed

    values: list[Any] | None = [None] * world_size() if is_main() else None
    distributed.gather_object(value, values, dst=0)
    return values


def mean_over_processes(value: Any) -> Any:
    """Mean over processes of a number or a tuple of numbers; None stays None."""
    if value is None or world_size() == 1:
        return value
    means = np.mean(all_gather(value), axis=0)
    return tuple(means.tolist()) if isinstance(value, tuple) else float(means)


def part_of_batch(batch: Batch) -> Batch:
    """This process's part of a batch that all processes have. An empty part is replaced by the
    batch's first row, since all processes take every step."""
    part = batch[rank() :: world_size()]
    return part if len(part) else batch[:1]  # type: ignore[return-value]


def own_range(count: int) -> range:
    """This process's contiguous part of ``range(count)``; the parts are in order of rank."""
    return range(count * rank() // world_size(), count * (rank() + 1) // world_size())


@cache
def gradient_group(device: torch.device) -> Any:
    """The process group for gradients on a device; None: the default group."""
    from torch import distributed

    return distributed.new_group(backend="nccl") if device.type == "cuda" else None
