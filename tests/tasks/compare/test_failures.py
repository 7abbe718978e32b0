"""Comparisons that fail, entirely or in part."""

from __future__ import annotations

import json
import os
from logging import getLogger
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from recbole_llm.cli import main
from recbole_llm.tasks.compare import run
from recbole_llm.tasks.compare.executors import lock_folder

MODELS = "SASRec; GRU4Rec"
COMMAND = ["compare", "--dataset=tiny", "--seeds=2", "--jobs=2"]


def compare(models: str = MODELS, *more: str) -> Result:
    return CliRunner().invoke(main, [*COMMAND, f"--models={models}", *more])


@pytest.mark.usefixtures("quick_runs")
def test_a_failed_run_is_reported_and_the_others_carried_on() -> None:
    done = compare("SASRec; broken: SASRec --learning_rate=1e30; GRU4Rec")
    assert done.exit_code == 2, done.output
    assert "- broken, seed 2020 failed: the training loss of SASRec is nan" in done.output
    assert "error: 2 of 6 runs failed, see above; the same command tries them again" in done.output
    result = json.loads(Path("comparison/result.json").read_text())
    assert [row["label"] for row in result["rows"]] == ["SASRec", "GRU4Rec"]
    assert set(result["failures"]) == {"broken, seed 2020", "broken, seed 2021"}
    (test,) = result["tests"]
    assert test["label"] == "GRU4Rec"
    assert test["p"] == pytest.approx(0.0002)  # 2 of 10,000 resamples
    assert test["difference"]["mean"] == pytest.approx(1, abs=0.2)


@pytest.mark.usefixtures("quick_runs")
def test_a_comparison_whose_runs_all_fail_leaves_no_earlier_table() -> None:
    assert compare("SASRec").exit_code == 0
    done = compare("broken: SASRec --learning_rate=1e30")
    assert done.exit_code == 2
    assert "error: no run ended well; broken, seed 2020: the training loss" in done.output
    names = {path.name for path in Path("comparison").iterdir()} - {".lock"}
    assert names == {"cells"}


@pytest.mark.usefixtures("quick_runs")
def test_a_shared_run_that_fails_counts_for_each_label() -> None:
    failed = compare("a: SASRec --learning_rate=1e30; b: SASRec --learning_rate=1e30; c: SASRec")
    assert "error: 4 of 6 runs failed" in failed.output


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
    with lock_folder(Path("comparison")):
        done = compare(MODELS)
    assert done.exit_code == 2 and not started.exists()
    assert done.output == (
        "error: another command works in 'comparison'; wait for it, or name another folder with "
        "--output\n"
    )


@pytest.mark.skipif(not hasattr(os, "fork"), reason="locks of POSIX systems")
@pytest.mark.usefixtures("quick_runs")
def test_the_folder_is_locked_until_all_results_are_written(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def refused(*_: object) -> str:
        with (
            pytest.raises(ValueError, match="another command works"),
            lock_folder(Path("comparison")),
        ):
            pass
        return "page.html"

    monkeypatch.setattr(run, "write_page", refused)
    done = compare(MODELS)
    assert done.exit_code == 0, done.output
