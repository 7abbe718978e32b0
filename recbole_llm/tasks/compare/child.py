"""A run within a comparison: it reports its validation scores, and ends with its parent."""

from __future__ import annotations

import os
import threading
from collections.abc import Sequence
from itertools import islice
from pathlib import Path

from recbole_llm.hookspecs import hookimpl


class Scores:
    """Writes each validation's score as a line of a file, in the order of the validations.

    Args:
        file: may hold the scores of the run's earlier validations, which are kept.
    """

    def __init__(self, file: str | os.PathLike[str]) -> None:
        self.file = Path(file)

    @hookimpl
    def on_validation(self, score: float, number: int) -> None:
        """Write the score."""
        with self.file.open("a+b") as file:
            file.seek(0)
            # A run that was stopped after a validation, but before its checkpoint, repeats it.
            before = b"".join(islice(file, number - 1))
            file.truncate(len(before))
            file.write(f"{score!r}\n".encode())


def begin(scores: str) -> None:
    """Begin to record validations, and to watch for the end of the parent process."""
    threading.Thread(target=_end_with_parent, daemon=True).start()  # before the slow imports
    from recbole_llm.core.plugins.loading import get_plugins

    get_plugins().register(Scores(scores), "recbole_llm.compare")


def _end_with_parent() -> None:
    os.read(0, 1)  # blocks until the parent's end of the standard input is closed
    os._exit(1)


def run_trial(files: Sequence[str], argv: Sequence[str]) -> None:
    """Train and validate, without a test, and write the best score to ``output``. A trial that was
    stopped can be resumed, as a run can."""
    from recbole_llm.core.config import Config
    from recbole_llm.core.files import OTHER_FOLDER, write_json
    from recbole_llm.steps import build_model, build_trainer, load_data, start
    from recbole_llm.trainers.resume import resumable

    config = Config(config_file_list=files, argv=argv)
    start(config, trains=True)
    _, train_data, valid_data, _ = load_data(config)
    trainer = build_trainer(config, build_model(config, train_data.dataset))
    if config["resume"]:
        trainer.resume_run(config["resume"])
    with resumable(trainer):
        score, _ = trainer.fit(train_data, valid_data, show_progress=False)
        write_json(config["output"], {"best_valid_score": float(score)}, OTHER_FOLDER)
