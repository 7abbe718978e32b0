"""Random numbers where several processes train: whose are alike, and whose are not."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np

from recbole_llm.core.processes import distributed

_STREAMS = 1_000_003  # between the seeds of processes, whose workers' seeds are neighbours


def part_randomness(seed: int) -> None:
    """From here on other random numbers in each process, which all had the same; the first's
    go on as those of a process on its own."""
    if not distributed.is_main():
        import torch

        own = (seed + _STREAMS * distributed.rank()) % 2**32
        torch.manual_seed(own)
        np.random.seed(own)


def part_worker(worker: int) -> None:
    """The same in a worker of a loader, which torch seeds alike in each process."""
    import torch

    part_randomness(torch.initial_seed())


@contextmanager
def main_randomness() -> Iterator[None]:
    """Within it all processes draw the NumPy numbers that the first draws."""
    own = np.random.get_state()
    np.random.set_state(distributed.from_main(own))
    yield
    if not distributed.is_main():
        np.random.set_state(own)
