"""Finished runs are not repeated, and stopped runs are resumed."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
from click.testing import CliRunner, Result

from recbole_llm import testing
from recbole_llm.cli import main
from recbole_llm.tasks.compare.executors import EXECUTORS
from recbole_llm.tasks.compare.live import Live

MODELS = "SASRec; GRU4Rec"
COMMAND = ["compare", "--dataset=tiny", "--seeds=2", "--jobs=2"]


def compare(models: str = MODELS, *more: str) -> Result:
    return CliRunner().invoke(main, [*COMMAND, f"--models={models}", *more])


def files(folder: str) -> dict[str, str]:
    names = ("table.md", "table.tex", "result.json")
    return {name: Path(folder, name).read_text() for name in names}


@pytest.mark.usefixtures("quick_runs")
def test_a_killed_comparison_goes_on_to_equal_tables(
    monkeypatch: pytest.MonkeyPatch, started: Path
) -> None:
    assert compare(MODELS, "--output=whole").exit_code == 0
    assert sorted(started.read_text().splitlines()) == [
        "GRU4Rec 2020", "GRU4Rec 2021", "SASRec 2020", "SASRec 2021"
    ]  # fmt: skip
    started.unlink()
    ended = Live.end_run

    def kill(self: Live, *args: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Live, "end_run", kill)
    assert compare(MODELS, "--output=killed").exit_code == 130
    assert not Path("killed/table.md").exists()
    done = len(list(Path("killed/cells").glob("*/result.json")))
    assert 1 <= done < 4
    monkeypatch.setattr(Live, "end_run", ended)
    started.unlink()
    assert compare(MODELS, "--output=killed").exit_code == 0
    assert len(started.read_text().splitlines()) == 4 - done
    assert files("killed") == files("whole")


@pytest.mark.usefixtures("quick_runs")
def test_a_run_that_was_stopped_goes_on_where_it_stood(
    started: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    compare()
    monkeypatch.setattr("recbole_llm.tasks.compare.cells.load_run", lambda *_: {})
    (folder,) = Path("comparison/cells").glob("SASRec-2020-*")
    (folder / "result.json").unlink()
    (folder / "saved").mkdir()
    for age, name in enumerate(("new-last", "old-last", "new")):
        (folder / "saved" / f"{name}.pth").touch()
        os.utime(folder / "saved" / f"{name}.pth", (0, -age))
    started.unlink()
    assert compare().exit_code == 0
    assert started.read_text() == f"SASRec 2020 {folder}/saved/new-last.pth\n"


@pytest.mark.usefixtures("quick_runs")
def test_a_run_that_cannot_go_on_starts_anew(
    started: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Its checkpoint to resume from cannot be loaded: here it is an empty file."""
    compare()
    (folder,) = Path("comparison/cells").glob("SASRec-2020-*")
    (folder / "result.json").unlink()
    (folder / "saved").mkdir()
    (folder / "saved" / "new-last.pth").touch()
    started.unlink()
    assert compare().exit_code == 0
    assert started.read_text() == "SASRec 2020\n"
    assert f"{folder.name} starts anew" in caplog.text


@pytest.mark.usefixtures("quick_runs")
def test_runs_are_reused_by_comparisons_of_other_models_and_seeds(started: Path) -> None:
    compare("SASRec", "--seeds=2020,2021")
    compare("SASRec; GRU4Rec", "--seeds=1", "--eval_batch_size=4096", "--state=ERROR")
    assert sorted(started.read_text().splitlines()) == [
        "GRU4Rec 2020", "SASRec 2020", "SASRec 2021"
    ]  # fmt: skip


@pytest.mark.usefixtures("quick_runs")
def test_changed_data_and_changed_settings_repeat_a_run(started: Path) -> None:
    compare("SASRec", "--seeds=1")
    with Path("dataset/tiny/tiny.inter").open("a") as file:
        file.write("u1\ti1\t3\t2000\n")
    compare("SASRec", "--seeds=1")
    compare("SASRec --hidden_size=8", "--seeds=1")
    assert started.read_text().splitlines() == ["SASRec 2020"] * 3


@pytest.mark.usefixtures("quick_runs")
def test_a_run_without_its_metrics_of_users_is_repeated(started: Path) -> None:
    compare("SASRec", "--seeds=1")
    (file,) = Path("comparison/cells").glob("*/users.npz")
    file.unlink()
    assert compare("SASRec", "--seeds=1").exit_code == 0
    assert started.read_text().splitlines() == ["SASRec 2020"] * 2


@pytest.mark.usefixtures("quick_runs")
@pytest.mark.parametrize(
    "other",
    [
        "--loss_decimal_place=2",
        "--metrics=recall,mrr,ndcg,hit,precision --valid_metric=mrr@10",
        "--encoder=hash --encoder_prefix='query: ' --item_prompt='{{ title }}'",
    ],
)
def test_settings_that_a_run_does_not_read_do_not_matter(other: str, started: Path) -> None:
    compare("SASRec", "--seeds=1")
    done = compare(f"SASRec {other}", "--seeds=1")
    assert done.exit_code == 0, done.output
    assert started.read_text().splitlines() == ["SASRec 2020"]


@pytest.mark.usefixtures("quick_runs")
@pytest.mark.parametrize("model", ["LLMESR", "SASRec --metrics=Diversity,MRR"])
def test_settings_of_vectors_matter_where_they_are_read(model: str, started: Path) -> None:
    common = ["--seeds=1", "--encoder=hash", "--valid_metric=MRR@10"]
    for text in ("a", "b"):
        assert compare(f"{model} --item_prompt='{text} {{{{ title }}}}'", *common).exit_code == 0
    assert len(started.read_text().splitlines()) == 2


@pytest.mark.usefixtures("quick_runs")
def test_labels_of_the_same_settings_share_a_run(started: Path) -> None:
    done = compare("a b: SASRec; a-b: SASRec; c: SASRec", "--seeds=1")
    assert done.exit_code == 0, done.output
    assert started.read_text().splitlines() == ["SASRec 2020"]
    rows = json.loads(Path("comparison/result.json").read_text())["rows"]
    assert [row["label"] for row in rows] == ["a b", "a-b", "c"]
    assert len({folder for row in rows for folder in row["folders"]}) == 1


@pytest.mark.usefixtures("quick_runs")
def test_a_renamed_model_keeps_its_runs(started: Path) -> None:
    for model in ("SASRec", "renamed: SASRec"):
        assert compare(model, "--seeds=1").exit_code == 0
    assert started.read_text().splitlines() == ["SASRec 2020"]


@pytest.mark.usefixtures("quick_runs")
def test_a_file_that_a_setting_names_is_known_by_what_it_holds(started: Path) -> None:
    Path("titles.jinja").write_text("{{ title }}")
    texts = "PAD --encoder=hash --item_prompt=titles.jinja"
    for _ in range(2):
        compare(texts, "--seeds=1")
    assert started.read_text().splitlines() == ["PAD 2020"]
    Path("titles.jinja").write_text("{{ title }}: {{ genre }}")
    compare(texts, "--seeds=1")
    assert started.read_text().splitlines() == ["PAD 2020"] * 2


def below(pid: int) -> list[psutil.Process]:
    """All descendants of a process: its runs, and Ray's own processes."""
    return psutil.Process(pid).children(recursive=True)


@pytest.mark.slow
@pytest.mark.parametrize("executor", EXECUTORS)
def test_runs_end_with_a_killed_comparison_which_goes_on_to_equal_metrics(
    executor: str, request: pytest.FixtureRequest
) -> None:
    """Runs are real, and nothing can catch the kill; the whole comparison at the end is local."""
    if executor == "ray":
        request.getfixturevalue("ray_installed")
    testing.write_tiny_dataset("dataset")
    arguments = ["--models=GRU4Rec; BPR", "--protocol=leave-one-out", "--seeds=1"]
    common = ["--dataset=tiny", "--epochs=300", "--stopping_step=300", *arguments]
    command = [sys.executable, "-m", "recbole_llm", "compare", *common]
    killed = [*command, "--output=killed", f"--executor={executor}"]
    process = subprocess.Popen(killed)
    while not list(Path("killed").glob("cells/*/result.json")):
        time.sleep(0.1)
    while not [f for f in Path("killed").glob("cells/BPR*/saved/*-last.pth")]:
        time.sleep(0.1)
    children = below(process.pid)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    gone, alive = psutil.wait_procs(children, timeout=300)
    assert gone and not alive
    first = {file: file.stat().st_mtime for file in Path("killed").glob("cells/*/result.json")}
    subprocess.run(killed, check=True)
    subprocess.run([*command, "--output=whole"], check=True)
    assert all(file.stat().st_mtime == first[file] for file in first)
    found = [json.loads(Path(f, "result.json").read_text()) for f in ("killed", "whole")]
    assert [r["test"] for r in found[0]["rows"]] == [r["test"] for r in found[1]["rows"]]
    assert found[0]["tests"] == found[1]["tests"]
    (output,) = Path("killed").glob("cells/BPR*/output.txt")
    assert "Resumed from" in output.read_text()
    shutil.rmtree("killed")
