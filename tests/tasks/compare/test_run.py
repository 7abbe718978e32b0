"""A comparison from the command to its files: killed, resumed, with failures."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from logging import getLogger
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import psutil
import pytest
from click.testing import CliRunner, Result

from recbole_llm import testing
from recbole_llm.cli import main
from recbole_llm.tasks.compare import paired, run
from recbole_llm.tasks.compare.cells import Cell
from recbole_llm.tasks.compare.executors import EXECUTORS, alone_in
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
    ended = Live.ended

    def kill(self: Live, *args: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Live, "ended", kill)
    assert compare(MODELS, "--output=killed").exit_code == 130
    assert not Path("killed/table.md").exists()
    done = len(list(Path("killed/cells").glob("*/result.json")))
    assert 1 <= done < 4
    monkeypatch.setattr(Live, "ended", ended)
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
    """Such as one of another encoder, whose vectors the model does not read."""
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
def test_the_screen_has_an_aligned_table_and_a_next_command(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("recbole_llm.tasks.compare.run.write_page", lambda *_: "none")
    compare()
    (best,) = Path("comparison/cells").glob("GRU4Rec-2020-*")
    (best / "saved").mkdir()
    (best / "saved" / "x.pth").touch()
    lines = compare().output.splitlines()
    at = next(i for i, line in enumerate(lines) if line.startswith("model    seeds  mrr@10  "))
    assert lines[at + 1].startswith("SASRec   2      .") and lines[at + 2][:12] == "GRU4Rec  2  "
    assert "**" not in "".join(lines) and "<u>" not in "".join(lines)
    assert any(line.startswith("tiny: 30 users, 20 items; leave-one-out. Means") for line in lines)
    command = f"recbole-llm recommend --checkpoint={best}/saved/x.pth --users=u0"
    assert lines[-1] == f"next     {command}"


@pytest.mark.usefixtures("quick_runs")
def test_runs_are_done_again_only_where_something_that_matters_changed(started: Path) -> None:
    compare("SASRec", "--seeds=2020,2021")
    compare("SASRec; GRU4Rec", "--seeds=1", "--eval_batch_size=4096", "--state=ERROR")
    assert sorted(started.read_text().splitlines()) == [
        "GRU4Rec 2020", "SASRec 2020", "SASRec 2021"
    ]  # fmt: skip
    with Path("dataset/tiny/tiny.inter").open("a") as file:
        file.write("u1\ti1\t3\t2000\n")
    compare("SASRec", "--seeds=1")
    compare("SASRec --hidden_size=8", "--seeds=1")
    assert started.read_text().splitlines()[3:] == ["SASRec 2020", "SASRec 2020"]
    for file in Path("comparison/cells").glob("*/users.npz"):
        file.unlink()
    assert compare("SASRec --hidden_size=8", "--seeds=1").exit_code == 0
    assert len(started.read_text().splitlines()) == 6


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
    assert compare("renamed: SASRec", "--seeds=1").exit_code == 0
    assert started.read_text().splitlines() == ["SASRec 2020"]
    failed = compare("a: SASRec --learning_rate=1e30; b: SASRec --learning_rate=1e30; c: SASRec")
    assert "error: 4 of 6 runs failed" in failed.output


@pytest.mark.usefixtures("quick_runs")
def test_the_next_command_has_what_no_checkpoint_keeps(monkeypatch: pytest.MonkeyPatch) -> None:
    Path("x.pth").touch()
    monkeypatch.setattr(Cell, "checkpoint", "x.pth")
    model = "SASRec --item_init=llm --embedding_cache_dir='my cache'"
    done = compare(model, "--seeds=1", "--encoder=hash")
    command = "recbole-llm recommend --checkpoint=x.pth --users=u0"
    assert done.output.splitlines()[-1] == f"next     {command} '--embedding_cache_dir=my cache'"


@pytest.mark.usefixtures("quick_runs")
def test_ready_made_lists_have_no_next_command(monkeypatch: pytest.MonkeyPatch) -> None:
    """`recommend` needs the interactions themselves."""
    Path("x.pth").touch()
    monkeypatch.setattr(Cell, "checkpoint", "x.pth")
    for part in ("train", "valid", "test"):
        rows = "user_id:token\titem_id:token\titem_id_list:token_seq\nu1\ti1\ti2 i3\n"
        Path(f"dataset/tiny/tiny.{part}.inter").write_text(rows)
    done = compare(
        "SASRec", "--seeds=1", "--benchmark_filename=['train','valid','test']",
        "--alias_of_item_id=['item_id_list']", "--train_level=prefix",
        "--load_col={'inter':['user_id','item_id','item_id_list']}",
    )  # fmt: skip
    assert done.exit_code == 0, done.output
    assert "next  " not in done.output


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


@pytest.mark.usefixtures("quick_runs")
def test_a_failed_run_is_reported_and_the_others_carried_on() -> None:
    done = compare("SASRec; broken: SASRec --learning_rate=1e30; GRU4Rec")
    assert done.exit_code == 2, done.output
    assert "- broken, seed 2020 failed: Training loss is nan" in done.output
    assert "error: 2 of 6 runs failed, see above; the same command tries them again" in done.output
    result = json.loads(Path("comparison/result.json").read_text())
    assert [row["label"] for row in result["rows"]] == ["SASRec", "GRU4Rec"]
    assert set(result["failures"]) == {"broken, seed 2020", "broken, seed 2021"}
    (test,) = result["tests"]
    assert test["label"] == "GRU4Rec" and test["p"] == pytest.approx(
        0.0002
    )  # 2 of 10,000 resamples
    assert test["difference"]["mean"] == pytest.approx(1, abs=0.2)
    only = compare("broken: SASRec --learning_rate=1e30")
    assert (
        only.exit_code == 2 and "error: no run ended well; broken, seed 2020: Trai" in only.output
    )
    left = {path.name for path in Path("comparison").iterdir()} - {".lock"}
    assert left == {"cells"}  # no table of others


def test_tested_differences_are_those_of_the_table() -> None:
    """Also where each seed tests other users, as splits by chance do."""

    def run(seed: int, users: str, values: list[float]) -> Any:
        columns = {"users": np.array(list(users)), "metric auc": np.array(values),
                   "tested": np.zeros(len(users))}  # fmt: skip
        return SimpleNamespace(seed=seed, users=columns, name=f"seed {seed}")

    base = [run(1, "abc", [0.1, 0.2, 0.3]), run(2, "cd", [0.5, 0.7])]
    ours = [run(1, "cba", [0.9, 0.4, 0.2]), run(2, "cd", [0.6, 0.9])]
    (test,) = paired.against(base, {"B": ours}, ["auc"])
    assert test.baseline == pytest.approx((0.2 + 0.6) / 2)
    assert test.difference.mean == pytest.approx((0.5 + 0.75) / 2 - (0.2 + 0.6) / 2)


@pytest.mark.usefixtures("quick_runs")
def test_a_damaged_result_is_named() -> None:
    assert compare("SASRec", "--seeds=1").exit_code == 0
    (file,) = Path("comparison/cells").glob("*/result.json")
    file.write_text('{"best_valid')
    done = compare("SASRec", "--seeds=1")
    assert done.exit_code == 2
    assert f"error: {file} is damaged (Unterminated string" in done.output
    file.unlink()
    assert compare("SASRec", "--seeds=1").exit_code == 0


@pytest.mark.usefixtures("quick_runs")
@pytest.mark.parametrize("part", [0.5, 0.0])
def test_damaged_metrics_of_users_are_named(part: float) -> None:
    assert compare(MODELS, "--seeds=1").exit_code == 0
    (file,) = Path("comparison/cells").glob("GRU4Rec-*/users.npz")
    whole = file.read_bytes()
    file.write_bytes(whole[: int(part * len(whole))])
    done = compare(MODELS, "--seeds=1")
    assert done.exit_code == 2
    assert f"error: {file} is damaged (" in done.output
    assert done.output.endswith("): remove it, and the run is done again\n")
    file.unlink()
    assert compare(MODELS, "--seeds=1").exit_code == 0


@pytest.mark.usefixtures("quick_runs")
def test_models_tested_on_other_items_are_refused() -> None:
    done = compare("SASRec; other: SASRec --learning_rate=0.5")
    assert done.exit_code == 2
    assert (
        "error: other, seed 2020 and SASRec, seed 2020 were not tested on the same" in done.output
    )


@pytest.mark.usefixtures("quick_runs")
def test_what_was_settled_stands_under_the_table() -> None:
    assert compare("GRU4Rec; BPR", "--seeds=1", "--protocol=leave-one-out").exit_code == 0
    assert "- items that a user has already are" in Path("comparison/table.md").read_text()
    assert compare("BPR; Pop", "--protocol=random").exit_code == 0
    assert "- the split is random, and each" in Path("comparison/table.md").read_text()


@pytest.mark.usefixtures("quick_runs")
def test_repeated_purchases_are_told_once_under_the_table() -> None:
    assert compare("BPR; wide: BPR --embedding_size=128").exit_code == 0
    assert Path("comparison/table.md").read_text().count("2 again") == 1
    assert compare("SASRec; GRU4Rec").exit_code == 0
    assert "2 again" not in Path("comparison/table.md").read_text()


@pytest.mark.usefixtures("quick_runs")
def test_users_that_one_model_was_not_tested_on_are_left_out_and_counted() -> None:
    """As those of two interactions under leave-one-out, with a sequential and a general model."""
    done = compare("SASRec; GRU4Rec", "--seeds=1")
    assert done.exit_code == 0 and "left out here" not in done.output
    (file,) = Path("comparison/cells").glob("GRU4Rec-*/users.npz")
    with np.load(file) as users:
        rows = {name: users[name] for name in users.files}
    for name in ("users", "tested", "metric mrr@10"):
        rows[name] = rows[name][::-1][4:]  # u0 to u25, backwards
    np.savez(file, **rows)
    again = compare("SASRec; GRU4Rec", "--seeds=1")
    assert again.exit_code == 0, again.output
    assert "4 users that one of the two was not tested on are left out here" in again.output
    (test,) = json.loads(Path("comparison/result.json").read_text())["tests"]
    assert test["difference"]["users"] == [26, 26] and test["left_out"] == 4


@pytest.mark.usefixtures("quick_runs")
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--baseline=SASRecc"], "error: baseline: the model 'SASRecc' is unknown; did you mean"),
        (["--seeds=many"], "error: seeds: expected a number, or some such as 1,2,3, got 'many'"),
        (
            ["--seeds=2020"],
            "error: seeds: 2,020 would be as many runs of each model; for",
        ),
        (["--seeds=0"], "error: seeds: expected at least 1, got 0"),
        (["--jobs=0"], "error: jobs: expected at least 1, got 0"),
        (
            ["--dataset=tyni"],
            "error: dataset 'tyni': the folder 'dataset/tyni' does not",
        ),
        (["--models=SASRec; b: SASRec --seed=1"], "error: models: b: seeds are given for all"),
        (["--models=SASRec --seed=1", "--seeds=1,2"], "error: models: SASRec --seed=1: seeds are"),
    ],
)
def test_options_are_checked_before_any_run(
    arguments: list[str], message: str, started: Path
) -> None:
    done = compare(MODELS, *arguments)
    assert done.exit_code == 2 and done.output.startswith(message)
    assert not started.exists()


@pytest.mark.usefixtures("quick_runs")
def test_a_page_that_fails_is_a_line_and_the_tables_are_there(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fail(*_: object) -> str:
        raise ValueError("'tiny.item': several rows of one item_id differ")

    monkeypatch.setattr(run, "write_page", fail)
    done = compare(MODELS)
    assert done.exit_code == 0, done.output
    assert "page     no page.html: 'tiny.item': several rows of one item_id differ" in done.output
    assert Path("comparison/table.md").is_file()


@pytest.mark.usefixtures("quick_runs", "own_logging")
def test_a_warning_of_the_page_is_marked_as_one(monkeypatch: pytest.MonkeyPatch) -> None:
    def warn(*_: object) -> str:
        getLogger("recbole_llm").warning("item embeddings cover 7 of 8")
        return "page.html"

    monkeypatch.setattr(run, "write_page", warn)
    done = compare(MODELS)
    assert done.exit_code == 0, done.output
    assert "\nwarning: item embeddings cover 7 of 8\npage     page.html\n" in done.output
    assert not getLogger().handlers


@pytest.mark.skipif(not hasattr(os, "fork"), reason="locks of POSIX systems")
@pytest.mark.usefixtures("quick_runs")
def test_a_second_command_in_the_folder_is_refused(started: Path) -> None:
    Path("comparison").mkdir()
    with alone_in(Path("comparison")):
        done = compare(MODELS)
    assert done.exit_code == 2 and not started.exists()
    assert done.output == (
        "error: another command works in 'comparison'; wait for it, or name another folder with "
        "--output\n"
    )


@pytest.mark.usefixtures("quick_runs")
def test_a_metric_without_a_value_is_not_tested(monkeypatch: pytest.MonkeyPatch) -> None:
    means = paired._over_seeds
    monkeypatch.setattr(paired, "_over_seeds", lambda tables: means(tables) * np.nan)
    done = compare(MODELS)
    assert done.exit_code == 0 and "†" not in done.output
    assert json.loads(Path("comparison/result.json").read_text())["tests"] == []


def below(pid: int) -> list[psutil.Process]:
    """What a process has started, and what these have: runs, and Ray's own processes."""
    return psutil.Process(pid).children(recursive=True)


@pytest.mark.slow
@pytest.mark.parametrize("executor", EXECUTORS)
def test_runs_end_with_a_killed_comparison_which_goes_on_to_equal_metrics(
    executor: str, request: pytest.FixtureRequest
) -> None:
    """Real runs, and a kill that nothing can catch; the whole one, in the end, is local."""
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
