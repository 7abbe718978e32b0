"""What the screen shows, and what the log file holds."""

from __future__ import annotations

import logging
import re
from pathlib import Path

import pytest

from recbole_llm.core.config import Config
from recbole_llm.core.log import (
    Screen,
    close_log,
    init_log,
    log_file,
    run_name,
    save_traceback,
    show,
    transformers_quiet,
)
from recbole_llm.steps import start

pytestmark = pytest.mark.usefixtures("own_logging")


def said() -> None:
    logger = logging.getLogger("recbole_llm")
    logger.info("a \x1b[1;35mdetail\x1b[0m")
    show("the result")
    logger.warning("mind http://me:word@host/x")
    logger.debug("unseen")


def test_a_quiet_screen_has_results_and_warnings_and_the_file_all(
    capsys: pytest.CaptureFixture[str],
) -> None:
    init_log(Config("BPR"))
    said()
    shown = capsys.readouterr()
    assert shown.out == "the result\n"
    assert shown.err == "warning: mind http://host/x\n"
    file = Path(str(log_file()))
    lines = [line.split("  ", 1)[1] for line in file.read_text(encoding="utf-8").splitlines()]
    assert lines == ["a detail", "the result", "mind http://host/x"]
    assert file.parent == Path("log").resolve() and file.name.startswith("BPR-ml-100k-")


def test_closed_output_ends_no_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdout", None)  # by a shell's >&-
    Screen(verbose=False, results=True).emit(logging.makeLogRecord({"levelno": logging.INFO}))


def test_a_record_without_a_place_for_its_arguments_ends_no_run() -> None:
    init_log(Config("BPR"))
    logging.getLogger().info("Load pretrained model from", "a%b.pth")  # as RecBole's RaCT does
    logging.getLogger().info("%d of them", "http://me:word@host/x")
    text = Path(str(log_file())).read_text(encoding="utf-8")
    assert "Load pretrained model from a%b.pth\n" in text
    assert "%d of them http://host/x\n" in text


def test_verbose_shows_what_the_file_holds(capsys: pytest.CaptureFixture[str]) -> None:
    init_log(Config("BPR", argv=["--verbose"]))
    said()
    assert re.findall(r"INFO  (.*)", capsys.readouterr().err) == ["a detail", "the result"]


def test_an_unknown_key_is_warned_of_on_the_screen_and_in_the_file(
    capsys: pytest.CaptureFixture[str],
) -> None:
    start(Config("BPR", argv=["--lerning_rate=0.1"]), trains=True)
    message = "unknown config key: 'lerning_rate', did you mean 'learning_rate'? (ignored; "
    assert capsys.readouterr().err.startswith(f"warning: {message}")
    assert message in Path(str(log_file())).read_text(encoding="utf-8")


def test_state_is_the_level_of_both(capsys: pytest.CaptureFixture[str]) -> None:
    init_log(Config("BPR", argv=["--state=WARNING"]))
    said()
    assert capsys.readouterr().out == ""
    assert "result" not in Path(str(log_file())).read_text(encoding="utf-8")


def test_without_a_file_results_leave_the_output_to_others(
    capsys: pytest.CaptureFixture[str],
) -> None:
    init_log(Config("BPR"), to_file=False)
    said()
    shown = capsys.readouterr()
    assert shown.out == "" and "the result" in shown.err
    assert not Path("log").exists()


def test_every_run_has_a_file_of_its_own() -> None:
    for _ in range(2):
        init_log(Config("BPR"))
        logging.getLogger().warning("once")
    assert [f.read_text().count("once") for f in Path("log").iterdir()] == [1, 1]


def test_without_a_log_folder_the_log_is_on_the_screen(capsys: pytest.CaptureFixture[str]) -> None:
    Path("log").touch()
    init_log(Config("BPR"))
    assert "no log file: './log' cannot be written" in capsys.readouterr().err
    file = save_traceback(ValueError("http://me:word@host/ was here"))
    text = Path(file).read_text()
    Path(file).unlink()
    assert "ValueError: http://host/ was here" in text


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no device that is always full")
def test_a_log_on_a_full_disk_is_told_once(capsys: pytest.CaptureFixture[str]) -> None:
    Path("log").mkdir()
    init_log(Config("BPR"))
    file = next(h for h in logging.getLogger().handlers if isinstance(h, logging.FileHandler))
    file.close()
    file.baseFilename = "/dev/full"  # opened by the next record
    for _ in range(3):
        logging.getLogger().info("a detail")
    close_log()
    told = "warning: log file '/dev/full' cannot be written (No space left on device); the run "
    assert capsys.readouterr().err == f"{told}goes on, and the log lacks lines\n"


def test_names_carry_model_data_and_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    times = iter(1_700_000_000_000_000_000 + step * 4_000_000 for step in range(9))
    monkeypatch.setattr("time.time_ns", lambda: next(times))

    def name(*argv: str) -> tuple[str, str]:
        found = re.fullmatch(r"BPR-ml-100k-([0-9a-f]{6})-(.*)", run_name(Config("BPR", argv=argv)))
        assert found is not None
        return found[1], found[2]

    first, again, other = name(), name("--verbose", "--data_path=x"), name("--epochs=7")
    assert first[0] == again[0] != other[0]
    assert name("--item_init=llm")[0] != first[0]
    # RecBole names TensorBoard's folder by the part before the first dot.
    assert run_name(Config("BPR", argv=["--dataset=shop.v2"])).startswith("BPR-shop_v2-")
    assert first[1].endswith("-000") and again[1].endswith("-004")  # in the same second


@pytest.mark.parametrize("verbose", [True, False])
def test_bars_and_warnings_of_transformers_are_shown_by_verbose_runs_alone(
    verbose: bool, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from transformers import modeling_gguf_pytorch_utils as gguf
    from transformers.utils import logging as theirs

    monkeypatch.setattr(logging.getLogger(), "handlers", [Screen(verbose, True)])
    theirs.enable_progress_bar()
    with transformers_quiet():
        list(theirs.tqdm([1, 2], desc="Loading weights"))
        list(gguf.tqdm([1, 2], desc="Converting"))
        warns = theirs.get_logger("transformers.modeling_utils").isEnabledFor(logging.WARNING)
    said = capsys.readouterr().err
    assert ("Loading weights" in said, "Converting" in said, warns) == (verbose, verbose, verbose)
    assert theirs.get_verbosity() == logging.WARNING
    list(theirs.tqdm([1, 2], desc="Loading weights"))
    list(gguf.tqdm([1, 2], desc="Converting"))
    assert "Loading weights" in (said := capsys.readouterr().err) and "Converting" in said
