"""The command line."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from commands import run_main
from pydantic_core import SchemaError

from recbole_llm import hookimpl
from recbole_llm.cli import main
from recbole_llm.commands.shared import parse_names, split_arguments
from recbole_llm.core.plugins.loading import get_plugins

pytestmark = pytest.mark.usefixtures("tiny")
ROOT = Path(__file__).parents[1]
CACHE = ("--embedding_cache_dir=cache",)


def test_models_lists_models_encoders_plugins_and_their_origins() -> None:
    output = CliRunner().invoke(main, ["models"]).output
    assert "PAD" in output and "recbole_llm.models.pad" in output
    assert "LightGCN" in output and "bundled" in output


def test_models_says_what_each_is_for_and_reads() -> None:
    lines = CliRunner().invoke(main, ["models"]).output.splitlines()
    assert lines[0].split() == ["models", "task", "reads", "paper", "idea"]
    (llmesr,) = [line for line in lines if line.startswith("  LLMESR ")]
    columns = [cell for cell in llmesr.split("  ") if cell.strip()]
    assert [cell.strip() for cell in columns[:4]] == [
        "LLMESR", "sequential", "item_text, user_text", "Liu et al., NeurIPS 2024"
    ]  # fmt: skip


@pytest.mark.parametrize("argv", [["--model=PAD", "--help"], ["--help", "--model", "PAD"]])
def test_help_lists_the_models_keys(argv: list[str]) -> None:
    output = CliRunner().invoke(main, ["run", *argv]).output
    assert "--verbose" in output
    assert "--n_bins=10 (an integer of at least 1)\n    " in output
    assert "the lists the keys of one" not in output


@pytest.mark.parametrize("argv", [["models", "LLMCF"], ["run", "--model=LLMCF", "--help"]])
def test_the_keys_of_the_stages_that_a_model_names_are_listed_after_its_own(
    argv: list[str],
) -> None:
    output = CliRunner().invoke(main, argv).output
    assert 0 < output.index("\n--n_examples=") < output.index("\n--generator_temperature=")
    assert output.count("\n--generator_temperature=") == 1


def test_the_keys_that_all_models_share_are_named() -> None:
    lines = CliRunner().invoke(main, ["models", "SASRec"]).output.splitlines()
    start = next(i for i, line in enumerate(lines) if line.startswith("keys of every run"))
    shared = [word.strip(",") for line in lines[start:] for word in line.split()]
    assert {"item_init", "epochs", "eval_args", "encoder", "window_stride"} <= set(shared)
    assert "hidden_size" not in shared  # a key of SASRec's own


def test_help_without_a_model_says_where_they_are() -> None:
    done = CliRunner().invoke(main, ["run", "--help"])
    assert done.exit_code == 0 and "recbole-llm models lists the models" in done.output
    assert CliRunner().invoke(main, ["run", "--help", "--model=PDA"]).exit_code == 2


def test_help_without_a_model_does_not_load_torch() -> None:
    argv = [sys.executable, "-X", "importtime", "-m", "recbole_llm", "run", "--help"]
    done = subprocess.run(argv, capture_output=True, text=True, check=True)
    imported = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines()}
    assert "click" in imported and "torch" not in imported


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["--model=PDA"], "error: model 'PDA' is unknown; did you mean 'PAD'"),
        (["--model=BPR", "--dataset=tinny"], "error: dataset 'tinny'"),
        (
            ["--model=BPR", "--epochs=many"],
            "error: epochs: expected an integer of at least 1, got 'many'",
        ),
        (["model=BPR"], "error: argument 'model=BPR' is not of the form --key=value"),
        (["--encoder_prefix=\udcff"], r"error: argument '--encoder_prefix=\udcff' is not in UTF-8"),
        (["--model=PAD", "--encoder=bundeld"], "error: encoder 'bundeld' is unknown; did you mean"),
    ],
)
def test_bad_input_ends_in_one_line_and_status_2(
    argv: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_main(argv) == 2
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error")]
    assert len(lines) == 1 and lines[0].startswith(message)


def test_debug_shows_where_the_error_came_from() -> None:
    with pytest.raises(ValueError, match="'PDA' is unknown"):
        run_main(["--model=PDA", "--debug"])


def test_the_unforeseen_ends_in_one_line_with_the_traceback_in_a_file(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fail(*args: object, **kwargs: object) -> None:
        raise KeyError("http://me:word@host/v1")

    for command, module in (
        (["run", "--model=BPR"], "recbole_llm.quick_start.run_recbole_llm"),
        (["recommend", "--checkpoint=x"], "recbole_llm.tasks.recommend.run.recommend_to_file"),
        (["models"], "recbole_llm.tasks.models.list_all"),
        (["encode"], "recbole_llm.tasks.encode.encode"),
        (["prepare"], "recbole_llm.tasks.prepare.prepare"),
        (["zero-shot", "--train=a", "--test=b"], "recbole_llm.tasks.zero_shot.run.zero_shot"),
    ):
        monkeypatch.setattr(module, fail)
        done = CliRunner().invoke(main, command)
        found = re.fullmatch(
            r"error: KeyError: 'http://host/v1'; this is a bug or an unexpected situation: the "
            r"traceback is in (\S+); report it with that file to the project's issue tracker\n",
            done.output,
        )
        assert done.exit_code == 1 and found is not None, done.output
        text = Path(found[1]).read_text()
        assert "in fail" in text and "word" not in text
        shown = CliRunner().invoke(main, [*command, "--debug"])
        assert isinstance(shown.exception, KeyError)


def test_commands_other_than_recommend_want_the_whole_package(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(*args: object, **kwargs: object) -> None:
        raise ModuleNotFoundError("No module named 'colorlog'")

    monkeypatch.setattr("recbole_llm.quick_start.run_recbole_llm", fail)
    monkeypatch.setattr("recbole_llm.commands.shared.find_spec", lambda name: name != "torch")
    assert run_main(["--model=BPR"]) == 2
    said = capsys.readouterr().err
    assert said.startswith("error: torch not installed: ") and len(said.splitlines()) == 1


def test_a_package_that_serving_lacks_is_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(*args: object, **kwargs: object) -> None:
        raise ModuleNotFoundError("No module named 'pandas'", name="pandas")

    monkeypatch.setattr("recbole_llm.quick_start.run_recbole_llm", fail)
    monkeypatch.setattr("recbole_llm.commands.shared.find_spec", lambda name: None)
    assert run_main(["--model=BPR"]) == 2
    said = capsys.readouterr().err
    assert said == "error: this command needs the package 'pandas': pip install pandas\n"


def test_the_unforeseen_ends_in_one_line_where_recbole_is_not_installed(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(*args: object, **kwargs: object) -> None:
        raise KeyError("x")

    monkeypatch.setattr("recbole_llm.quick_start.run_recbole_llm", fail)
    monkeypatch.setitem(sys.modules, "recbole_llm.core.log", None)  # as it cannot be imported
    assert run_main(["--model=BPR"]) == 1
    said = capsys.readouterr().err
    assert said.startswith("error: KeyError: 'x'; ") and "run it again with --debug" in said


def test_an_error_without_words_is_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def calculate_loss(*args: object, **kwargs: object) -> None:
        raise NotImplementedError

    monkeypatch.setattr("recbole_llm.quick_start.run_recbole_llm", calculate_loss)
    assert run_main(["--model=BPR"]) == 2
    (said,) = [s for s in capsys.readouterr().err.splitlines() if s.startswith("error")]
    assert said.startswith("error: NotImplementedError in ") and said.endswith("calculate_loss")


@pytest.mark.parametrize(
    "error",
    [
        KeyboardInterrupt(),
        SchemaError('Error building "function-after" validator: KeyboardInterrupt: '),
    ],
)  # the second is how pydantic reports an interrupt
def test_an_interrupt_is_one_line_and_status_130(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], error: BaseException
) -> None:
    def interrupt(*args: object, **kwargs: object) -> None:
        raise error

    monkeypatch.setattr("recbole_llm.quick_start.run_recbole_llm", interrupt)
    assert run_main(["--model=BPR"]) == 130
    assert capsys.readouterr().err == "interrupted\n"


def test_an_interrupt_says_how_to_go_on(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupt(*args: object, **kwargs: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("recbole.trainer.Trainer._valid_epoch", interrupt)
    assert run_main(["--model=BPR", "--dataset=tiny", "--epochs=2"]) == 130
    (last,) = Path("saved").glob("BPR-tiny-*-last.pth")
    said = f"interrupted; the same command with --resume={last} goes on\n"
    assert capsys.readouterr().err.endswith(said)


def test_the_output_is_tried_before_the_work() -> None:
    Path("file").touch()
    command = ["recommend", "--checkpoint=none.pth", "--users=u1", "--output=file/a.csv"]
    done = CliRunner().invoke(main, command)
    assert done.output.startswith("error: folder 'file' cannot be written (")
    assert done.output.endswith("name another file with --output\n") and done.exit_code == 2


def test_config_files_are_read() -> None:
    Path("a.yaml").write_text("model: BPR\ndataset: tiny\nepochs: x")
    assert run_main(["--config_files=a.yaml"]) == 2  # the file gives epochs a wrong type
    Path("b.yaml").write_text("epochs: 1\nshow_progress: False")
    assert run_main(["--config_files=a.yaml b.yaml"]) == 0


def test_names_of_config_files_on_windows(monkeypatch: pytest.MonkeyPatch) -> None:
    given = [r'--config_files="my files\a.yaml" C:\b.yaml']
    with monkeypatch.context() as windows:
        windows.setattr("os.name", "nt")
        _, files = split_arguments(given)
    assert files == ["my files/a.yaml", "C:/b.yaml"]


def test_encode_reports_what_it_did_and_runs_warm_the_second_time() -> None:
    arguments = ["encode", "--dataset=tiny", "--encoder=hash"]
    first, second = (CliRunner().invoke(main, arguments) for _ in range(2))
    assert first.exit_code == second.exit_code == 0, first.output
    assert "60 items, 16 numbers each" in second.output
    assert "encode: there already (60 texts)" in second.output
    assert first.output.count(" reads: title: The ") == 3


def test_prepare_does_what_is_missing_and_says_what_is_there() -> None:
    arguments = ["prepare", "--model=PAD", "--dataset=tiny", "--encoder=hash", *CACHE]
    first, second = (CliRunner().invoke(main, arguments) for _ in range(2))
    assert first.exit_code == second.exit_code == 0, first.output
    assert "encode: 60 texts done in " in first.output
    assert "encode: there already (60 texts)" in second.output
    assert (
        CliRunner()
        .invoke(main, ["prepare", "--model=BPR", "--dataset=tiny"])
        .output.endswith("the data set is ready; the model has no offline stages\n")
    )
    init = ["prepare", "--model=BPR", "--dataset=tiny", "--item_init=llm", "--encoder=hash", *CACHE]
    assert "encode: there already (60 texts)" in CliRunner().invoke(main, init).output


@pytest.mark.parametrize("asked", [["encode"], ["prepare", "--model=BPR", "--stage=encode"]])
def test_offline_work_reads_the_data_set_as_plugins_prepared_it(asked: list[str]) -> None:
    seen: list[Any] = []

    class Prepares:
        @hookimpl
        def prepare_dataset(self, dataset: Any) -> None:
            seen.append(dataset)

    manager, plugin = get_plugins().manager, Prepares()
    manager.register(plugin)
    try:
        arguments = [*asked, "--dataset=tiny", "--encoder=hash", *CACHE]
        result = CliRunner().invoke(main, arguments)
    finally:
        manager.unregister(plugin)
    assert result.exit_code == 0, result.output
    assert [dataset.dataset_name for dataset in seen] == ["tiny"]


def test_a_run_encodes_what_is_missing() -> None:
    """A run encodes through the same function as ``prepare``."""
    argv = ["--model=PAD", "--dataset=tiny", "--encoder=hash", "--epochs=1", *CACHE]
    assert run_main([*argv, "--show_progress=False"]) == 0
    output = CliRunner().invoke(main, ["prepare", *argv]).output
    assert "encode: there already (60 texts)" in output


def test_the_script_is_the_command(tmp_path: Path) -> None:
    script = [sys.executable, str(ROOT / "run_recbole_llm.py")]
    run = subprocess.run([*script, "--model=PDA"], capture_output=True, text=True, check=False)
    assert run.returncode == 2
    assert "did you mean 'PAD'" in run.stderr
    assert "Traceback" not in run.stderr


@pytest.mark.parametrize(
    ("given", "spins"),
    [({}, "3000"), ({"GOMP_SPINCOUNT": "7"}, "7"), ({"OMP_WAIT_POLICY": "ACTIVE"}, "None")],
)
def test_waiting_threads_sleep_unless_the_user_says_otherwise(
    given: dict[str, str], spins: str
) -> None:
    """The variable is set before torch, and with it OpenMP, is loaded."""
    code = (
        "import os, sys; from recbole_llm.commands import shared\n"
        "shared.rest_when_idle(); print(os.environ.get('GOMP_SPINCOUNT'), 'torch' in sys.modules)"
    )
    variables = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT")
    environment = {k: v for k, v in os.environ.items() if k not in variables} | given
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == [spins, "False"]


def test_output_that_nobody_reads_is_no_success() -> None:
    command = [sys.executable, "-m", "recbole_llm", "models"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None and process.stderr is not None
        process.stdout.close()
        assert process.wait() == 141 and process.stderr.read() == b""


def test_output_in_an_encoding_that_lacks_characters_is_no_error() -> None:
    Path("o.csv").write_text("user,item,日\n1,a,x\n1,b,y\n", encoding="utf-8")
    command = [sys.executable, "-m", "recbole_llm", "convert", "o.csv", "--keep=日", "--output=o"]
    environment = os.environ | {"PYTHONIOENCODING": "cp1252"}  # as of a file on Windows
    done = subprocess.run(
        command, env=environment, capture_output=True, encoding="cp1252", check=True
    )
    assert r"\u65e5" in done.stdout


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("u1, u2,,", ["u1", "u2"]),
        ('"Doe, Jane",u2', ["Doe, Jane", "u2"]),
        ('7" vinyl,x', ['7" vinyl', "x"]),
        ("a\r\nb\nc\u2028d", ["a", "b", "c\u2028d"]),
        ("a\rb", ["a", "b"]),
        ("", []),
    ],
)
def test_a_list_of_ids_may_have_ids_with_commas(text: str, expected: list[str]) -> None:
    assert parse_names(text) == expected
