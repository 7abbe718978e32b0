"""Several processes as one run, started by ``torchrun``; every question of rank is asked here.

RecBole's own hooks for several processes stay off (``single_spec`` is True): they are nccl only,
average metrics that were rounded before, and clip gradients before they are summed.

All functions may be called by a process on its own, where they do nothing.
"""

from __future__ import annotations

import atexit
import os
import signal
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from functools import cache
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

import numpy as np

if TYPE_CHECKING:
    import torch

T = TypeVar("T")
Batch = TypeVar("Batch", bound="Sequence[Any] | torch.Tensor")
_NEEDED = ("RANK", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT")
_PATIENCE = timedelta(days=1)  # others wait that long while the first encodes a catalogue
_SAID = "recbole_llm/said"
# Of gloo, of nccl, of torch's store: what a process reads from another that is gone.
_LOST = ("gloo", "Connection closed", "Connection reset", "Broken pipe", "NCCL", "TCPStore")


class LostProcess(ValueError):
    """Another process of the run has ended, or all are to end."""


class _Place(NamedTuple):
    rank: int
    local_rank: int
    world_size: int


_here = _Place(0, 0, 1)  # until `join`


def started_together() -> bool:
    """Whether something like ``torchrun`` started this process among others."""
    return int(os.environ.get("WORLD_SIZE") or 1) > 1


def before_torch() -> None:
    """Keep torch from the warning that a model used all of its parameters, where one might not."""
    if started_together():
        os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")


def join() -> None:
    """Join the processes that ``torchrun`` started together; once.

    Raises:
        ValueError: WORLD_SIZE is set, and the rest of what ``torchrun`` sets is not.
        LostProcess: the others are not there.
    """
    global _here
    if not started_together() or world_size() > 1:
        return
    from torch import distributed

    missing = [name for name in _NEEDED if name not in os.environ]
    if missing:
        raise ValueError(
            f"WORLD_SIZE={os.environ['WORLD_SIZE']} is set, {', '.join(missing)} not: start with "
            f"torchrun --nproc_per_node=N -m recbole_llm run …, or unset WORLD_SIZE"
        )
    with lost_processes_named():
        distributed.init_process_group("gloo", timeout=_PATIENCE)
    own = distributed.get_rank(), int(os.environ["LOCAL_RANK"])
    _here = _Place(*own, distributed.get_world_size())
    atexit.register(distributed.destroy_process_group)
    signal.signal(signal.SIGTERM, _stop)


def _stop(*_: object) -> None:
    """torchrun ends the processes that are left with SIGTERM."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    raise LostProcess("another process of this run has ended, or the run was stopped")


def world_size() -> int:
    """Processes of this run."""
    return _here.world_size


def rank() -> int:
    """Number of this process in the run, from 0."""
    return _here.rank


def local_rank() -> int:
    """Number of this process on its machine, from 0."""
    return _here.local_rank


def own_gpu(given: object = None) -> str:
    """This process's GPU, of those given (``"0,2"``) or of all on its machine.

    Raises:
        ValueError: fewer are given than processes run here.
    """
    if given is None:
        return str(local_rank())
    gpus = str(given).strip("()[] ").split(",")
    if local_rank() >= len(gpus):
        raise ValueError(
            f"gpu_id: {given} names {len(gpus)}, and more processes run on this machine; name one "
            f"for each, or leave it out"
        )
    return gpus[local_rank()].strip()


def is_main() -> bool:
    """Whether this is the process that writes files and logs."""
    return rank() == 0


def wait() -> None:
    """Go on when all processes are here."""
    if world_size() > 1:
        from torch import distributed

        distributed.barrier()


@contextmanager
def main_first() -> Iterator[None]:
    """What is within it the first process does alone, and the others after it."""
    if not is_main():
        wait()
    yield
    if is_main():
        wait()


def from_main(value: T) -> T:
    """The first process's value, in all."""
    if world_size() == 1:
        return value
    from torch import distributed

    values = [value]
    distributed.broadcast_object_list(values, src=0)
    return values[0]


def gathered(value: T) -> list[T]:
    """Every process's value, in order of rank."""
    if world_size() == 1:
        return [value]
    from torch import distributed

    values: list[Any] = [None] * world_size()
    distributed.all_gather_object(values, value)
    return values


def to_main(value: T) -> list[T] | None:
    """Every process's value, in order of rank; None in all processes but the first."""
    if world_size() == 1:
        return [value]
    from torch import distributed

    values: list[Any] | None = [None] * world_size() if is_main() else None
    distributed.gather_object(value, values, dst=0)
    return values


def mean(value: Any) -> Any:
    """Mean over processes of a number or a tuple of numbers; None stays None."""
    if value is None or world_size() == 1:
        return value
    means = np.mean(gathered(value), axis=0)
    return tuple(means.tolist()) if isinstance(value, tuple) else float(means)


def own_part(batch: Batch) -> Batch:
    """This process's part of a batch that all have; its first row where there is none for it,
    since all processes take every step."""
    part = batch[rank() :: world_size()]
    return part if len(part) else batch[:1]  # type: ignore[return-value]


def own_range(count: int) -> range:
    """This process's stretch of the numbers below `count`; together, in order of rank, all."""
    return range(count * rank() // world_size(), count * (rank() + 1) // world_size())


@cache
def gradient_group(device: torch.device) -> Any:
    """The process group that gradients on a device go through; None: the one for all."""
    from torch import distributed

    return distributed.new_group(backend="nccl") if device.type == "cuda" else None


@contextmanager
def lost_processes_named() -> Iterator[None]:
    """Turn what torch says where another process is gone into `LostProcess`."""
    try:
        yield
    except RuntimeError as error:
        if not started_together() or not any(s in str(error) for s in _LOST):
            raise
        signal.signal(signal.SIGTERM, signal.SIG_IGN)  # this process is ending already
        raise LostProcess("another process of this run has ended") from error


def first_to_say() -> bool:
    """Whether no process of this run has said yet why it ends."""
    if world_size() == 1:
        return True
    from torch import distributed

    try:
        store = distributed.distributed_c10d._get_default_store()
        return bool(store.add(_SAID, 1) == 1)
    except RuntimeError:  # the store went with its process
        return True
