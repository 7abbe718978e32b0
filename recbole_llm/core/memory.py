"""Memory that runs out, on the CPU or on a GPU."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

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
