"""Ray (an extra): connecting to a cluster, and the share of it that each task gets."""

from __future__ import annotations

import math
import os
import re
import socket
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from types import ModuleType

from recbole_llm.core.errors import extra_install_command, one_line
from recbole_llm.core.versions import installed

_OLDEST = (2, 44)  # of setup.cfg; recbole 1.2.1 brings 2.6.3
_PATIENCE = 10.0  # seconds
# For a Ray that is started here: workers keep the niceness of this process, since Ray's default,
# 15, starves them next to other work; and no usage reports are sent.
_OF_OWN = {"RAY_worker_niceness": "0", "RAY_USAGE_STATS_ENABLED": "0"}
# Since 2.60, this is how often Ray tries to join a cluster: by default 20 times, which take 40 s
# each if something else answers.
_TRIES = "RAY_gcs_server_port_wait_time_s"
# Prefixes of environment variables that are passed on to work on other machines.
_CARRIED = ("RECBOLE_LLM_", "OMP_")


@contextmanager
def connected(address: str | None = None) -> Iterator[ModuleType]:
    """Within it, the module ``ray`` is connected to a cluster.

    Args:
        address: the cluster's address. None: the variable RAY_ADDRESS, else a local Ray that is
            started and stopped here. A program that is already connected stays connected.

    Raises:
        ValueError: Ray is not installed or too old, or no cluster answers, or it refuses.
    """
    check_installed()
    where = address or os.environ.get("RAY_ADDRESS") or "local"
    _check_address(where)
    import ray

    if ray.is_initialized():
        yield ray
        return
    for name, value in _OF_OWN.items():
        os.environ.setdefault(name, value)
    _connect(ray, where)
    try:
        yield ray
    finally:
        ray.shutdown()


def _connect(ray: ModuleType, where: str) -> None:
    quiet = {"log_to_driver": False, "logging_level": "ERROR"}
    if where == "local":
        ray.init(where, include_dashboard=False, **quiet)
        return
    tries = os.environ.get(_TRIES)
    os.environ[_TRIES] = tries or "1"
    try:
        ray.init(where, **quiet)
    except ConnectionError as error:
        raise _no_cluster(where, error) from error
    except (RuntimeError, ray.exceptions.RayError) as error:  # other versions, or no token
        raise ValueError(
            f"ray_address: the cluster at '{where}' refuses this process: {one_line(error)}"
        ) from error
    finally:
        if tries is None:  # a Ray that is started here would read it too
            del os.environ[_TRIES]


def _check_address(address: str) -> None:
    """Check that something answers at the address, for which Ray itself waits minutes."""
    if address in ("local", "auto"):
        return
    try:
        host, _, port = address.removeprefix("ray://").rpartition(":")
        socket.create_connection((host, int(port)), _PATIENCE).close()
    except (OSError, ValueError) as error:
        raise _no_cluster(address, error) from error


def _no_cluster(address: str, why: Exception) -> ValueError:
    return ValueError(
        f"ray_address: no Ray cluster at '{address}' ({one_line(why)}); give its host:port, or "
        f"neither ray_address nor RAY_ADDRESS to start one here"
    )


def check_installed() -> None:
    """Raise ValueError if Ray is not installed or too old."""
    found = installed(["ray"]).get("ray", "none")
    if found == "none" or tuple(map(int, re.findall(r"\d+", found)[:2])) < _OLDEST:
        oldest = ".".join(map(str, _OLDEST))
        raise ValueError(
            f"executor: 'ray' needs the package ray>={oldest} (here: {found}): "
            f"{extra_install_command('ray')}"
        )


@dataclass(frozen=True)
class Share:
    """The share of a cluster that each task gets."""

    threads: int  # to compute with
    cpus: int  # that Ray reserves for it
    gpus: float  # that Ray reserves for it; a fraction if there are fewer GPUs than tasks
    room: int  # how many tasks can have this many CPUs at once

    @classmethod
    def of(cls, nodes: Sequence[Mapping[str, float]], at_once: int) -> Share:
        """The largest share that each of `at_once` tasks can have within a single machine.

        If some machines have GPUs, only those count. OMP_NUM_THREADS sets the threads.

        Args:
            nodes: resources of each machine, by Ray's names.
            at_once: number of tasks that run at the same time.
        """
        nodes = [node for node in nodes if node.get("GPU")] or nodes
        gpus = sum(int(node.get("GPU", 0)) for node in nodes)
        cpus = [int(node.get("CPU", 0)) for node in nodes]
        most = max([1, *cpus])

        def room(each: int) -> int:
            return sum(count // each for count in cpus)

        share = next((n for n in range(most, 0, -1) if room(n) >= at_once), 1)
        threads = omp_threads() or share
        own = min(threads, most)
        return cls(threads, own, 1 / math.ceil(at_once / gpus) if gpus else 0, room(own))


def omp_threads() -> int | None:
    """The threads that OMP_NUM_THREADS asks for; None if it does not, or in vain."""
    given = os.environ.get("OMP_NUM_THREADS", "").partition(",")[0]  # may list nested levels
    return int(given) or None if given.isdecimal() else None


def share_of(ray: ModuleType, at_once: int) -> Share:
    """The share of each of `at_once` tasks in the cluster that Ray is connected to."""
    return Share.of([node["Resources"] for node in ray.nodes() if node["Alive"]], at_once)


def environment_to_carry() -> dict[str, str]:
    """The environment variables that are passed on to work on other machines."""
    return {name: value for name, value in os.environ.items() if name.startswith(_CARRIED)}


def own_gpus() -> list[str]:
    """Within a task: the numbers of the GPUs that Ray gave to it."""
    import ray

    return [str(number) for number in ray.get_gpu_ids()]
