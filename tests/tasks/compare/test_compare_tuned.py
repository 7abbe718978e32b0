"""Comparisons that tune their models first."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner

from recbole_llm.cli import main

pytest.importorskip("optuna")

pytestmark = pytest.mark.usefixtures("tiny")


@pytest.mark.usefixtures("quick_runs")
def test_compare_tunes_every_model_alike_and_runs_the_best(started: Path) -> None:
    command = ["compare", "--models=SASRec; GRU4Rec", "--dataset=tiny", "--seeds=7,8", "--tune=2"]
    done = CliRunner().invoke(main, command)
    assert done.exit_code == 0, done.output
    assert sorted(started.read_text().splitlines()) == [  # the best trial also has the second seed
        *["GRU4Rec 7"] * 3, *["GRU4Rec 8"] * 2, *["SASRec 7"] * 3, *["SASRec 8"] * 2
    ]  # fmt: skip
    best = {
        file.name.split("-")[0]: yaml.safe_load(file.read_text())["learning_rate"]
        for file in Path("comparison/tuned").glob("*.yaml")
    }
    table = Path("comparison/result.json").read_text()
    assert all(f"--learning_rate={rate}" in table for rate in best.values())
    command[1] = "--models=first: SASRec; second: GRU4Rec"  # the same searches
    assert CliRunner().invoke(main, command).exit_code == 0
    assert len(started.read_text().splitlines()) == 10


@pytest.mark.usefixtures("quick_runs")
def test_compare_runs_a_model_without_keys_to_search_as_it_is(started: Path) -> None:
    command = ["compare", "--models=SASRec; Pop", "--dataset=tiny", "--seeds=1", "--tune=1"]
    done = CliRunner().invoke(main, [*command, "--protocol=leave-one-out"])
    assert done.exit_code == 0, done.output
    assert "Pop: nothing to search; it runs as it is\n" in done.output
    assert sorted(started.read_text().splitlines()) == ["Pop 2020", "SASRec 2020", "SASRec 2020"]


@pytest.mark.usefixtures("quick_runs")
def test_a_failed_search_is_reported_and_the_others_carried_on() -> None:
    models = "--models=GRU4Rec --learning_rate=1e30; SASRec"
    command = ["compare", models, "--dataset=tiny", "--seeds=2", "--tune=2", "--baseline=SASRec"]
    done = CliRunner().invoke(main, command)
    assert done.exit_code == 2, done.output
    failed = "GRU4Rec --learning_rate=1e30, seed 2021 failed: no trial ended well: the train"
    assert f"- {failed}ing loss of GRU4Rec is nan" in done.output
    assert "error: 2 of 4 runs failed, see above; the same command tries them again, and with a " \
           "larger --tune it searches on" in done.output  # fmt: skip
    result = json.loads(Path("comparison/result.json").read_text())
    assert [row["label"] for row in result["rows"]] == ["SASRec"]
    alone = CliRunner().invoke(main, ["compare", models.partition(";")[0], *command[2:-1]])
    assert alone.exit_code == 2 and "error: no run ended well; GRU4Rec" in alone.output


@pytest.mark.usefixtures("quick_runs")
def test_compare_does_not_search_a_key_that_one_model_sets_to_its_default() -> None:
    models = "--models=SASRec; two: SASRec --n_layers=2"
    arguments = ["compare", models, "--dataset=tiny", "--seeds=1", "--tune=1"]
    done = CliRunner().invoke(main, arguments)
    assert done.exit_code == 0, done.output
    files = Path("comparison/tuned").glob("*.yaml")
    assert sorted("n_layers" in yaml.safe_load(file.read_text()) for file in files) == [False, True]
