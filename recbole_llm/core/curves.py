"""A run's training curves in TensorBoard's files."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from functools import partial
from logging import getLogger
from typing import Any

from recbole_llm.core.errors import one_line


class CurveWriter:
    """TensorBoard's ``SummaryWriter``, for a run that goes on if the files cannot be written: a
    warning says so once, and later calls do nothing."""

    def __init__(self, folder: str) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self._folder, self._failed = folder, False
        self._writer = SummaryWriter(folder)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        found = getattr(self._writer, name)
        return partial(self._write, found) if callable(found) else found

    def _write(self, method: Callable[..., Any], *args: Any, **named: Any) -> Any:
        if self._failed:
            return None
        try:
            return method(*args, **named)
        except OSError as error:  # also one that the writer's thread met before
            self._failed = True
            getLogger("recbole_llm").warning(
                f"TensorBoard's files in '{self._folder}' cannot be written "
                f"({error.strerror or one_line(error)}); the run goes on without them"
            )
            with suppress(OSError):
                self._writer.close()
            return None
