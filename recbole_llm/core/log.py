"""The log of a run: complete in a file, the essentials on the screen, without credentials."""

from __future__ import annotations

import logging
import os
import re
import sys
import tempfile
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import colorlog
from recbole.utils.logger import RemoveColorFilter, log_colors_config
from tqdm import tqdm

from recbole_llm.core import compat
from recbole_llm.core.checkpoints.stored import plain_config
from recbole_llm.core.digest import digest
from recbole_llm.core.lines import is_terminal
from recbole_llm.core.marks import Mark
from recbole_llm.core.processes import distributed
from recbole_llm.core.secrets import without_credentials

if TYPE_CHECKING:
    from recbole.config import Config

FOLDER = "log"
_FILE_FORMAT = ("%(asctime)-15s %(levelname)s  %(message)s", "%a %d %b %Y %H:%M:%S")
_failed: str | None = None  # log file of the latest run that failed
_SCREEN_FORMAT = ("%(log_color)s%(asctime)-15s %(levelname)s  %(message)s", "%d %b %H:%M")


def _strip_credentials(record: logging.LogRecord) -> bool:
    """Remove credentials from a record, as a logging filter that lets every record pass."""
    try:
        said = record.getMessage()
    except (TypeError, ValueError, KeyError):  # no placeholders for its arguments, as in RaCT
        own = record.args if isinstance(record.args, tuple) else (record.args,)
        said = " ".join(map(str, (record.msg, *own)))
        record.msg, record.args = said, ()
    if without_credentials(said) != said:
        record.msg, record.args = without_credentials(said), ()
    return True


class Screen(logging.Handler):
    """A handler that writes above progress bars, never into them.

    Args:
        verbose: whether everything is shown, as in RecBole; else warnings and what `show` logs.
        results: whether a quiet run's lines, except warnings and errors, go to standard output;
            all other lines go to standard error.
    """

    def __init__(self, verbose: bool, results: bool) -> None:
        super().__init__()
        self.verbose, self.results = verbose, results
        self.setFormatter(
            colorlog.ColoredFormatter(*_SCREEN_FORMAT, log_colors=log_colors_config)
            if verbose
            else _Plain()
        )

    def filter(self, record: logging.LogRecord) -> Any:
        wanted = self.verbose or record.levelno >= logging.WARNING or hasattr(record, "shown")
        return wanted and super().filter(record)

    def emit(self, record: logging.LogRecord) -> None:
        minor = record.levelno < logging.WARNING and not self.verbose and self.results
        stream = sys.stdout if minor else sys.stderr
        if stream is None:  # a shell's >&-
            return
        text = self.format(record)
        tqdm.write(text if is_terminal(stream) else click.unstyle(text), file=stream)
        stream.flush()


class _Plain(logging.Formatter):
    """The message alone; for warnings and errors, also the level."""

    def format(self, record: logging.LogRecord) -> str:
        said = super().format(record)
        if record.levelno < logging.WARNING:
            return said
        return click.style(f"{record.levelname.lower()}: {said}", fg="yellow")


class _File(logging.FileHandler):
    """A run's log file."""

    _failed = False

    def __init__(self, file: Path) -> None:
        super().__init__(file, encoding="utf-8", errors="replace")
        self.setFormatter(logging.Formatter(*_FILE_FORMAT))
        self.addFilter(RemoveColorFilter())

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802
        """Warn once if the file cannot be written; logging would print a traceback per record."""
        error = sys.exc_info()[1]
        if not isinstance(error, OSError):
            super().handleError(record)
        elif not self._failed:
            self._failed = True
            logging.getLogger("recbole_llm").warning(
                f"log file '{self.baseFilename}' cannot be written ({error.strerror}); the run "
                f"goes on, and the log lacks lines"
            )

    def close(self) -> None:
        """Close the file; an error in writing the rest, such as a full disk, is ignored."""
        with suppress(OSError):
            super().close()


def show(text: str) -> None:
    """Log a text that the screen shows even of a quiet run."""
    logging.getLogger("recbole_llm").info(text, extra={"shown": True})  # see `Screen.filter`


def init_log(config: Config, to_file: bool = True) -> None:
    """Log to the screen and to a file of this run in ``./log``.

    If that folder cannot be written, a warning says so, and there is no file. A process that has
    set up its own logging keeps it. Of several processes, all but the first log only errors.

    Args:
        config: its ``state`` is the level of both; ``verbose`` shows everything on the screen.
        to_file: whether this is a run, which has a log file and a folder for TensorBoard.
    """
    close_log()  # a loaded model may have left one
    name = run_name(config)
    config.log_name = name if to_file else None
    compat.set_tensorboard(f"log_tensorboard/{name}" if to_file else None)
    root = logging.getLogger()
    if not root.handlers:
        main = distributed.is_main()
        root.setLevel(config["state"].upper() if main else logging.ERROR)
        root.addHandler(Screen(bool(config["verbose"]), to_file))
        if to_file and main:
            _add_file(root, name)
    for handler in root.handlers:
        handler.addFilter(_strip_credentials)


def close_log() -> None:
    """End the log of a run; what the process logs later does not belong to it."""
    compat.set_tensorboard(None)
    root = logging.getLogger()
    for handler in root.handlers[:]:
        if isinstance(handler, (Screen, _File)):
            root.removeHandler(handler)
            handler.close()
            root.setLevel(logging.WARNING)  # the level before `init_log`


@contextmanager
def log_ends_with_errors() -> Iterator[None]:
    """End the log if the block fails; `save_traceback` can still add to the file."""
    global _failed
    _failed = None
    try:
        yield
    except BaseException:
        _failed = log_file()
        close_log()
        raise


def _add_file(root: logging.Logger, name: str) -> None:
    try:
        Path(FOLDER).mkdir(exist_ok=True)
        root.addHandler(_File(Path(FOLDER) / f"{name}.log"))
    except OSError as error:
        logging.getLogger("recbole_llm").warning(
            f"no log file: './{FOLDER}' cannot be written ({error.strerror})"
        )


def run_name(config: Config) -> str:
    """Name of a run that starts now: ``PAD-ml-100k-3fa2c1-Nov-26-2026_08-50-58-326``.

    The six digits are a digest of all settings that are not local and can affect results.
    """
    short = digest(plain_config(config, Mark.LOCAL | Mark.NO_EFFECT_ON_RESULTS))[:6]
    now = time.time_ns()
    moment = time.strftime("%b-%d-%Y_%H-%M-%S", time.localtime(now // 10**9))
    data = re.sub(r"[^\w+-]", "_", str(config["dataset"]))
    return f"{config['model']}-{data}-{short}-{moment}-{now // 10**6 % 1000:03d}"


def log_file() -> str | None:
    """The current log file, or None."""
    handlers = logging.getLogger().handlers
    files = [h.baseFilename for h in handlers if isinstance(h, logging.FileHandler)]
    return next((name for name in files if Path(name).is_file()), None)


def log_place() -> str | None:
    """The current log file, as a relative path if it is below the working directory, or None."""
    name = log_file()
    if name is None or not Path(name).is_relative_to(Path.cwd()):
        return name
    return str(Path(name).relative_to(Path.cwd()))


@contextmanager
def transformers_quiet() -> Iterator[None]:
    """Within it, transformers shows neither bars nor warnings unless the run is verbose. It warns
    of weights that a model does not read, such as those of a language model's last layer."""
    handlers = logging.getLogger().handlers
    if any(isinstance(handler, Screen) and handler.verbose for handler in handlers):
        yield
        return
    theirs: Any = import_module("transformers.utils.logging")
    shown, level = theirs.is_progress_bar_enabled(), theirs.get_verbosity()
    theirs.disable_progress_bar()
    theirs.set_verbosity_error()
    try:
        with compat.gguf_bar_off():
            yield
    finally:
        theirs.set_verbosity(level)
        if shown:
            theirs.enable_progress_bar()


def save_traceback(error: BaseException) -> str:
    """Write an error's traceback to the log file, or to a new file if there is none; its name.

    Raises:
        OSError: the file cannot be written.
    """
    text = without_credentials("".join(traceback.format_exception(error)))
    name = log_file() or _failed
    if name is None:
        handle, name = tempfile.mkstemp(".log", "recbole-llm-")
        os.close(handle)
    with open(name, "a", encoding="utf-8", errors="replace") as log:
        log.write(text)
    return name
