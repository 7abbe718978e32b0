"""Memory: how much a process took, and errors where it runs out, on the CPU or on a GPU."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from recbole_llm.core.errors import one_line


@contextmanager
def memory_needed_by(what: str, way_out: str) -> Iterator[None]:
    """Within it, an error of memory that ran out says what needs the memory, and the way out.

    Raises:
        ValueError: such an error.
    """
    try:
        yield
    except (MemoryError, RuntimeError) as error:  # torch's error of the CPU has no class of its own
        if not isinstance(error, MemoryError) and "allocate" not in str(error):
            raise
        reason = one_line(str(error) or type(error).__name__)
        raise ValueError(f"{what} does not fit into memory ({reason}); {way_out}") from error


def peak_memory() -> int | None:
    """The peak memory of this process in MiB; None where the system does not report it."""
    status = Path("/proc/self/status")  # getrusage also counts the process that started this one
    if status.exists() and (found := re.search(r"VmHWM:\s+(\d+) kB", status.read_text())):
        return int(found[1]) // 2**10
    try:
        import resource
    except ImportError:  # Windows
        return None
    unit = 1 if sys.platform == "darwin" else 2**10
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit // 2**20
