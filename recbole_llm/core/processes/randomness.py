"""Random numbers of several processes: those that are the same in all, and those that differ."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np

from recbole_llm.core.processes import distributed

_STREAMS = 1_000_003  # between the seeds of processes, whose workers' seeds are neighbors


def seed_process(seed: int) -> None:
    """Give each process random numbers of its own from here on, where all had the same; the first
    process's go on as they would without others."""
    if not distributed.is_main():
        import torch

        seed = (seed + _STREAMS * distributed.rank()) % 2**32
        torch.manual_seed(seed)
        np.random.seed(seed)


def seed_worker(worker: int) -> None:
    """`seed_process` for a loader's worker, which torch seeds alike in each process."""
    import torch

    seed_process(torch.initial_seed())


@contextmanager
def same_numpy_randomness() -> Iterator[None]:
    """Within it all processes draw the NumPy numbers that the first draws."""
    own = np.random.get_state()
    np.random.set_state(distributed.broadcast(own))
    yield
    if not distributed.is_main():
        np.random.set_state(own)
