"""RecBole's log, without credentials; on the screen alone where no file can be written."""

from __future__ import annotations

import logging
import tempfile
import traceback
from pathlib import Path
from typing import TYPE_CHECKING

from recbole.utils import init_logger

from recbole_llm.core.secrets import without_credentials

if TYPE_CHECKING:
    from recbole.config import Config


class _WithoutCredentials(logging.Filter):
    def filter(self, record: logging.LogRecord) -> bool:
        said = record.getMessage()
        if without_credentials(said) != said:
            record.msg, record.args = without_credentials(said), ()
        return True


_FILTER = _WithoutCredentials()


def init_log(config: Config) -> None:
    """RecBole's ``init_logger``: the screen and a file in ``./log``; without a file where that
    folder cannot be written, which is said."""
    try:
        init_logger(config)
    except OSError as error:
        level = logging.getLevelName(str(config["state"] or "info").upper())
        logging.basicConfig(level=level, format="%(asctime)s %(levelname)s  %(message)s")
        logging.getLogger("recbole_llm").warning(
            f"no log file: './log' cannot be written ({error.strerror})"
        )
    for handler in logging.getLogger().handlers:
        handler.addFilter(_FILTER)


def save_traceback(error: BaseException) -> str:
    """Write an error's traceback to the log file, or to a file of its own where there is none.

    Returns:
        the file.

    Raises:
        OSError: neither can be written.
    """
    text = without_credentials("".join(traceback.format_exception(error)))
    handlers = logging.getLogger().handlers
    logs = [h.baseFilename for h in handlers if isinstance(h, logging.FileHandler)]
    for name in logs:
        if Path(name).is_file():
            with open(name, "a", encoding="utf-8", errors="replace") as log:
                log.write(text)
            return name
    options = {"prefix": "recbole-llm-", "suffix": ".log", "delete": False}
    with tempfile.NamedTemporaryFile(  # type: ignore[call-overload]
        "w", encoding="utf-8", errors="replace", **options
    ) as file:
        file.write(text)
    return str(file.name)
