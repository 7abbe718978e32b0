"""Training curves whose files cannot be written, for which no run ends."""

from __future__ import annotations

import shutil
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from recbole_llm.core.curves import CurveWriter


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_run_goes_on_without_a_folder_that_is_removed(
    caplog: pytest.LogCaptureFixture,
) -> None:
    writer = CurveWriter("curves")
    writer.add_scalar("loss", 1.0, 1)
    shutil.rmtree("curves")
    writer.add_scalar("loss", 1.0, 2)
    writer.close()
    assert caplog.text.count("TensorBoard's files in 'curves' cannot be written (No such") == 1


def test_what_the_writers_thread_meets_is_said_once(caplog: pytest.LogCaptureFixture) -> None:
    writer = CurveWriter("curves")
    writer.add_scalar("loss", 1.0, 1)
    worker: Any = writer._writer.file_writer.event_writer._async_writer._worker  # type: ignore[union-attr,attr-defined]
    worker.exception = OSError(28, "No space left on device")
    for step in range(3):
        writer.add_scalar("loss", 1.0, step)
    writer.add_text("note", text_string="later", global_step=3)
    writer.add_hparams({"a": 1}, {"b": 1.0})
    writer.close()
    worker.stop()
    assert caplog.text.count("cannot be written (No space left on device); the run goes on") == 1
    assert len(list(Path("curves").iterdir())) == 1


def test_a_plugins_trainer_finds_the_writers_other_methods() -> None:
    with closing(CurveWriter("curves")) as writer:
        writer.add_scalar("loss", 1.0, global_step=3)
        writer.add_histogram("weights", np.ones(3), 1)
        assert writer.log_dir == "curves"
    assert b"weights" in next(Path("curves").iterdir()).read_bytes()
