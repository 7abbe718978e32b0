"""Processes that ``torchrun`` starts: they join once, and one of them reports why they end."""

from __future__ import annotations

import atexit
import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import NamedTuple

_NEEDED = ("RANK", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT")
_PATIENCE = timedelta(days=1)  # the others wait while the first process encodes a catalogue
_ERROR_REPORTED_KEY = "recbole_llm/said"
# Parts of the errors of gloo, NCCL and torch's store after another process is gone.
_LOST = ("gloo", "Connection closed", "Connection reset", "Broken pipe", "NCCL", "TCPStore")


class LostProcess(ValueError):
    """Another process of the run has ended, or the run was stopped."""


class MainProcessFailed(ValueError):
    """The first process of the run failed in work that it does for all of them."""


class ProcessRank(NamedTuple):
    """A process among those that work together."""

    rank: int
    local_rank: int
    world_size: int


ALONE = ProcessRank(0, 0, 1)
VISIBLE_GPUS = os.environ.get("CUDA_VISIBLE_DEVICES")  # as given; each Config overwrites it
_joined = ALONE


def started_together() -> bool:
    """Whether something like ``torchrun`` started this process among others."""
    return int(os.environ.get("WORLD_SIZE") or 1) > 1


def before_torch() -> None:
    """Silence torch's warning that ``find_unused_parameters`` found none; before torch loads."""
    if started_together():
        os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")


def join() -> ProcessRank:
    """Join the processes that ``torchrun`` started together, once per process.

    Raises:
        ValueError: WORLD_SIZE is set without the other variables that ``torchrun`` sets.
        LostProcess: the other processes are gone.
    """
    global _joined
    if not started_together() or _joined != ALONE:
        return _joined
    from torch import distributed

    missing = [name for name in _NEEDED if name not in os.environ]
    if missing:
        raise ValueError(
            f"WORLD_SIZE={os.environ['WORLD_SIZE']} is set, but not {', '.join(missing)}: start "
            f"with torchrun --nproc_per_node=N -m recbole_llm run …, or unset WORLD_SIZE"
        )
    with lost_processes_named():
        distributed.init_process_group("gloo", timeout=_PATIENCE)
    own = distributed.get_rank(), int(os.environ["LOCAL_RANK"])
    _joined = ProcessRank(*own, distributed.get_world_size())
    atexit.register(_leave)
    signal.signal(signal.SIGTERM, _stop)
    return _joined


def _leave() -> None:
    """Leave the process group, after gloo's threads have released their last tensors.

    The threads need the interpreter for that, and torch aborts the process if they ask too late.
    """
    from torch import distributed

    time.sleep(0.2)  # neither gloo nor torch says when the threads are done
    distributed.destroy_process_group()


def _stop(*_: object) -> None:
    """Handle SIGTERM, by which torchrun ends the remaining processes."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    raise LostProcess("another process of this run has ended, or the run was stopped")


@contextmanager
def lost_processes_named() -> Iterator[None]:
    """Turn torch's errors about a process that is gone into `LostProcess`."""
    try:
        yield
    except RuntimeError as error:
        if not started_together() or not any(s in str(error) for s in _LOST):
            raise
        signal.signal(signal.SIGTERM, signal.SIG_IGN)  # this process is ending already
        raise LostProcess("another process of this run has ended") from error


def claim_error_report() -> bool:
    """Claim the report on why the run ends; False if another process has already claimed it."""
    if _joined == ALONE:
        return True
    from torch import distributed

    try:
        store = distributed.distributed_c10d._get_default_store()
        return bool(store.add(_ERROR_REPORTED_KEY, 1) == 1)
    except RuntimeError:  # the process that held the store is gone
        return True


def process_prefix() -> str:
    """``process 1: ``, which begins a line of any process but the first; "" in the first."""
    return f"process {_joined.rank}: " if _joined.rank else ""
