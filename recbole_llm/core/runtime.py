"""Process-wide settings that make CPU training faster: memory allocation and threads."""

from __future__ import annotations

import ctypes
import os
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from logging import getLogger
from pathlib import Path

import loky
import torch

from recbole_llm.core.keys.run import RunSettings
from recbole_llm.core.lines import plural
from recbole_llm.core.processes.cluster import omp_threads
from recbole_llm.core.settings import ConfigLike

# glibc's malloc.h: option, value. By default blocks of 128 KiB to 32 MiB may come from mmap, and
# free memory at the heap's top goes back at once: every training step would map, zero and unmap
# its activations anew.
M_TRIM_THRESHOLD, M_TOP_PAD, M_MMAP_THRESHOLD = -1, -2, -3
_KEPT = 1 << 30  # bytes: smaller blocks come from the heap, which keeps this much free memory
_TOP_PAD = 64 << 20  # bytes the heap grows by
_OLD_MMAP_LIMIT = 32 << 20  # the largest M_MMAP_THRESHOLD that glibc < 2.35 takes
_OTHER_ALLOCATORS = ("jemalloc", "tcmalloc", "mimalloc", "hoard", "asan")


def configure_runtime(config: ConfigLike | None = None) -> str:
    """Set the allocator and the number of threads for this process; log and return one line on it.

    May be called any number of times. The number of threads is `cpu_threads`, else OMP_NUM_THREADS,
    else the physical cores that affinity and cgroup allow. `tune_malloc: False`,
    RECBOLE_LLM_MALLOC=0 and glibc's own MALLOC_* and GLIBC_TUNABLES leave the allocator alone.
    """
    settings = RunSettings.of({} if config is None else config)
    threads = _set_threads(settings.cpu_threads)
    malloc = keep_heap() if settings.tune_malloc else "left alone (tune_malloc: False)"
    line = f"CPU: {threads}; memory allocator: {malloc}"
    getLogger().info(line)
    return line


def keep_heap() -> str:
    """Make glibc keep freed memory for the next step; return what was done, or why nothing was."""
    reason = _reason_to_leave_malloc()
    return f"left alone ({reason})" if reason else _tune_glibc()


def release_heap(config: ConfigLike) -> None:
    """Give the system the freed memory that `keep_heap` kept: encoders leave behind several times
    what most models need for training."""
    if RunSettings.of(config).tune_malloc and not _reason_to_leave_malloc():
        _process().malloc_trim(0)


def _reason_to_leave_malloc() -> str:
    if os.environ.get("RECBOLE_LLM_MALLOC") == "0":
        return "RECBOLE_LLM_MALLOC=0"
    for name, value in os.environ.items():
        if name.startswith("MALLOC_") or (name == "GLIBC_TUNABLES" and "glibc.malloc" in value):
            return f"{name} is set"
    if not sys.platform.startswith("linux") or not hasattr(_process(), "gnu_get_libc_version"):
        return "not glibc"
    other = loaded_allocator()
    return f"{other} is loaded" if other else ""


def loaded_allocator() -> str:
    """Name of the malloc replacement that this process has loaded, or ""."""
    try:
        maps = Path("/proc/self/maps").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
    files = {line.rpartition("/")[2] for line in maps.splitlines() if ".so" in line}
    return next((name for name in _OTHER_ALLOCATORS for file in files if name in file), "")


@cache
def _tune_glibc() -> str:
    mallopt = _process().mallopt
    done = mallopt(M_TRIM_THRESHOLD, _KEPT) and mallopt(M_TOP_PAD, _TOP_PAD)
    done = done and (mallopt(M_MMAP_THRESHOLD, _KEPT) or mallopt(M_MMAP_THRESHOLD, _OLD_MMAP_LIMIT))
    return "glibc keeps freed memory" if done else "left alone (mallopt refused)"


@cache
def _process() -> ctypes.CDLL:
    return ctypes.CDLL(None)


def _set_threads(wanted: int | None) -> str:
    told = wanted or omp_threads()
    # Hardware threads of one core share its arithmetic units: more threads than cores are slower.
    threads = told or loky.cpu_count(only_physical_cores=True)
    if threads != torch.get_num_threads():  # an earlier run may have set others
        torch.set_num_threads(threads)
    source = "cpu_threads" if wanted else "OMP_NUM_THREADS"
    return plural(threads, "thread") + (f" ({source})" if told else "")


def computes_bfloat16(device: torch.device) -> bool:
    """Whether a device computes in bfloat16; many devices can only store it."""
    if device.type == "cuda":
        return bool(torch.version.hip) or torch.cuda.get_device_capability(device)[0] >= 8
    if device.type != "cpu" or not torch.backends.mkldnn.is_available():  # type: ignore[no-untyped-call]
        return False
    return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())


def set_mixed_precision(device: torch.device, scaled: bool) -> None:
    """Set the data type of ``enable_amp`` on a GPU: float16 with ``enable_scaler``, as in RecBole,
    or on a GPU without bfloat16; else bfloat16, whose range needs no scaling of gradients."""
    if device.type != "cuda":
        return
    brain = not scaled and computes_bfloat16(device)
    torch.set_autocast_dtype("cuda", torch.bfloat16 if brain else torch.float16)
    if not scaled and not brain:
        getLogger("recbole_llm").warning(
            "enable_amp: this GPU does not compute in bfloat16, and small gradients are lost in "
            "float16; add --enable_scaler=True"
        )


_training = threading.RLock()  # reentrant: a hook of a run may start another run in its thread


@contextmanager
def one_thread() -> Iterator[None]:
    """Within it, no other thread trains.

    Raises:
        ValueError: another thread is training.
    """
    if not _training.acquire(blocking=False):
        raise ValueError(
            "another thread of this process is already training, and all threads share random "
            "numbers and logs: train one model after another, or each in its own process "
            "(recbole-llm compare --jobs)"
        )
    try:
        yield
    finally:
        _training.release()
