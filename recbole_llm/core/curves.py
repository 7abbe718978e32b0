"""A run's training curves in TensorBoard's files."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from logging import getLogger
from typing import Any


class CurveWriter:
    """The methods of TensorBoard's ``SummaryWriter`` that RecBole calls. If the files cannot be
    written, a warning says so once, and the run goes on without them."""

    def __init__(self, folder: str) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self._folder, self._failed = folder, False
        self._writer = SummaryWriter(folder)

    def add_scalar(self, *args: Any) -> None:
        """Add a point of a curve."""
        self._write(self._writer.add_scalar, *args)

    def add_hparams(self, *args: Any) -> None:
        """Add the run's settings with its best score."""
        self._write(self._writer.add_hparams, *args)

    def close(self) -> None:
        """Write what is left, and end the writer's thread."""
        self._write(self._writer.close)

    def _write(self, method: Callable[..., Any], *args: Any) -> None:
        if self._failed:
            return
        try:
            method(*args)
        except OSError as error:  # also one that the writer's thread met before
            self._failed = True
            getLogger("recbole_llm").warning(
                f"TensorBoard's files in '{self._folder}' cannot be written ({error.strerror}); "
                f"the run goes on without them"
            )
            with suppress(OSError):
                self._writer.close()
