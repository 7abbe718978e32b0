"""Random numbers of several processes: the same in all, or different in each."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np

from recbole_llm.core.processes import distributed

_STREAMS = 1_000_003  # between the seeds of processes, since those of workers are consecutive


def seed_process(seed: int) -> None:
    """Give each process its own random numbers from here on. The first process continues with the
    numbers that a single process would draw."""
    if not distributed.is_main():
        import torch

        seed = (seed + _STREAMS * distributed.rank()) % 2**32
        torch.manual_seed(seed)
        np.random.seed(seed)
        random.seed(seed)


def seed_worker(worker: int) -> None:
    """Do `seed_process` for a loader's worker, which torch seeds identically in all processes."""
    import torch

    seed_process(torch.initial_seed())


@contextmanager
def same_numpy_randomness() -> Iterator[None]:
    """Within it, all processes draw the same NumPy numbers as the first process."""
    own = np.random.get_state()
    np.random.set_state(distributed.broadcast(own))
    yield
    if not distributed.is_main():
        np.random.set_state(own)


@contextmanager
def keep_random_state() -> Iterator[None]:
    """Restore the random state afterward, since offline work and loading an encoder draw numbers:
    the split and the weights that follow must not depend on whether results were stored before."""
    import torch

    python_state, numpy_state = random.getstate(), np.random.get_state()
    try:
        with torch.random.fork_rng():
            yield
    finally:
        random.setstate(python_state)
        np.random.set_state(numpy_state)
