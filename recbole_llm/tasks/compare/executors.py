"""Executors of runs: processes on this machine, or tasks of a Ray cluster."""

from __future__ import annotations

import os
import subprocess
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

import loky

from recbole_llm.core.errors import check_choice, one_line
from recbole_llm.core.files import OTHER_FOLDER, file_lock
from recbole_llm.core.processes import cluster

EXECUTORS = ("local", "ray")
_PAUSE = 0.2  # seconds between two polls
_LAST_WAIT = 30.0  # seconds that a killed run has to end


def lock_folder(root: Path) -> AbstractContextManager[None]:
    """Lock an existing folder: within the block, no other command carries out runs in it.

    Raises:
        ValueError: another command holds the lock.
    """

    def busy() -> None:
        raise ValueError(f"another command works in '{root}'; wait for it, or {OTHER_FOLDER}")

    return file_lock(root / ".lock", busy)


@contextmanager
def open_executor(
    name: str = "local", jobs: int = 1, ray_address: str | None = None
) -> Iterator[Executor]:
    """Open the executor called `name`, for `jobs` runs at once; a Ray cluster stays connected
    within the block. Raises ValueError if the settings do not go together, or for an error of Ray.
    """
    check_choice("executor", name, EXECUTORS)
    if jobs < 1:
        raise ValueError(f"jobs: expected at least 1, got {jobs}")
    if name == "ray":
        with cluster.connected(ray_address) as ray:
            yield Ray(ray, jobs)
        return
    if ray_address:
        raise ValueError(f"ray_address: '{ray_address}' needs --executor=ray")
    yield Local(jobs)


class Local:
    """Processes on this machine, which share its cores and the GPUs of `gpu_id`."""

    def __init__(self, at_once: int) -> None:
        self.at_once = at_once
        self._started: list[tuple[str, subprocess.Popen[bytes]]] = []  # each with its GPU

    def start(self, command: Sequence[str], output: Path, gpus: str) -> subprocess.Popen[bytes]:
        """Start a process that writes to a file; it gets the GPU with the fewest runs."""
        threads = max(1, loky.cpu_count(only_physical_cores=True) // self.at_once)
        self._started = [(gpu, run) for gpu, run in self._started if run.poll() is None]
        runs = Counter(gpu for gpu, _ in self._started)
        own = min(gpus.split(","), key=runs.__getitem__) if self.at_once > 1 else gpus
        given = [f"--gpu_id={own}"] if own != gpus else []
        environment = {"OMP_NUM_THREADS": str(threads), **os.environ}
        environment["CUDA_VISIBLE_DEVICES"] = own  # not those of this process's configurations
        process = _start_process([*command, *given], output, environment)
        self._started.append((own, process))
        return process


def _start_process(
    command: Sequence[str], output: Path, environment: Mapping[str, str], folder: str | None = None
) -> subprocess.Popen[bytes]:
    """Start a process that ends with this one: it watches its standard input, which ends then."""
    with output.open("wb") as out:
        return subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=out, stderr=out, env=environment, cwd=folder
        )


class Ray:
    """Tasks of a Ray cluster: each waits for a machine with room, and starts a process on it. All
    files that runs read and write must be in folders that all machines share.

    Args:
        ray: the module ``ray``, connected.
    """

    def __init__(self, ray: ModuleType, at_once: int) -> None:
        self.at_once, self._ray = at_once, ray
        self._share = cluster.share_of(ray, at_once)
        self._task = ray.remote(_run_in_task)

    def start(self, command: Sequence[str], output: Path, gpus: str) -> _Task:
        """Hand the command to Ray, which starts it on a machine with enough free CPUs and GPUs."""
        share = self._share
        # No retries by Ray: a failed run is reported, and the next command tries it again.
        task = self._task.options(
            num_cpus=share.cpus, num_gpus=share.gpus if gpus else 0, max_retries=0
        )
        environment = {"OMP_NUM_THREADS": str(share.threads), **cluster.environment_to_carry()}
        ref = task.remote(list(command), output.absolute(), environment, os.getcwd())
        return _Task(self._ray, ref)


def _run_in_task(
    command: list[str], output: Path, environment: Mapping[str, str], folder: str
) -> int:
    """Carry out a run in a task; returns its exit status. The run ends whenever the task does."""
    gpus = cluster.own_gpus()
    own = [f"--gpu_id={','.join(gpus)}"] if gpus else []
    process = _start_process([*command, *own], output, {**os.environ, **environment}, folder)
    try:
        while (status := process.poll()) is None:
            time.sleep(_PAUSE)  # Ray can interrupt Python code, but not system calls
        return status
    finally:
        process.kill()
        process.wait()


class _Task:
    def __init__(self, ray: ModuleType, ref: Any) -> None:
        self._ray, self._ref = ray, ref

    def poll(self) -> int | str | None:
        """None while the run lasts; then its exit status, or an error in words if it has none."""
        if not self._ended(0):
            return None
        try:
            return int(self._ray.get(self._ref))
        except self._ray.exceptions.RayError as error:  # such as a lost machine
            return f"Ray: {one_line(getattr(error, 'cause', None) or error, 300)}"

    def kill(self) -> None:
        self._ray.cancel(self._ref)  # interrupts the task, which then kills the process

    def wait(self) -> None:
        self._ended(_LAST_WAIT)

    def _ended(self, seconds: float) -> bool:
        return bool(self._ray.wait([self._ref], timeout=seconds)[0])


Executor = Local | Ray
Started = subprocess.Popen[bytes] | _Task
