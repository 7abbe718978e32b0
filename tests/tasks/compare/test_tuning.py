"""Searches for settings: keys, budgets, failures, and resuming."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from searches import trials, tune

from recbole_llm.commands.shared import split_arguments
from recbole_llm.tasks.compare import cells
from recbole_llm.tasks.compare.entries import parse_models
from recbole_llm.tasks.compare.live import Live

optuna = pytest.importorskip("optuna")
from recbole_llm.tasks.compare import tuning  # noqa: E402
from recbole_llm.tasks.compare.trials import is_counted  # noqa: E402

pytestmark = pytest.mark.usefixtures("tiny")


@pytest.mark.usefixtures("quick_runs")
def test_searches_of_other_keys_stand_beside_each_other_and_say_how_to_run_the_best() -> None:
    first = tune("--trials=2", "--search=learning_rate=[0.1,0.2]", "--n_layers=1")
    assert first.exit_code == 0, first.output
    (file,) = Path("tuning/tuned").glob("SASRec-*.yaml")
    assert yaml.safe_load(file.read_text())["learning_rate"] in (0.1, 0.2)
    assert {tuple(trial.params) for trial in trials()} == {("learning_rate",)}
    command = f"recbole-llm run --dataset=tiny --n_layers=1 --model=SASRec --config_files={file}"
    assert f"next     {command}" in first.output.splitlines()
    again = tune("--trials=2", "--search=learning_rate=[0.3,0.4]", "--n_layers=1")
    assert again.exit_code == 0, again.output
    assert len(list(Path("tuning/tuned").glob("SASRec-*.yaml"))) == 2


@pytest.mark.usefixtures("quick_runs")
def test_the_trials_of_any_folder_are_kept_in_it() -> None:
    done = tune("--trials=1", "--output=tun?a b%20")
    assert done.exit_code == 0, done.output
    assert Path("tun?a b%20/tuning.db").is_file() and not Path("tun").exists()


@pytest.mark.usefixtures("quick_runs")
def test_the_next_command_may_have_spaces() -> None:
    done = tune("--trials=1", "--output=my tuning")
    (line,) = (line for line in done.output.splitlines() if line.startswith("next"))
    _, files = split_arguments(shlex.split(line.partition(" run ")[2]))
    assert len(files) == 1 and Path(files[0]).is_file()
    with pytest.raises(ValueError, match="config_files: 'a's.yaml': No closing quotation; put"):
        split_arguments(["--config_files=a's.yaml"])


@pytest.mark.usefixtures("quick_runs")
def test_a_search_goes_on_and_writes_the_best(monkeypatch: pytest.MonkeyPatch) -> None:
    ended = Live.end_run

    def interrupt(self: Live, *args: Any) -> None:
        ended(self, *args)
        if len(trials()) == 2:
            raise KeyboardInterrupt

    monkeypatch.setattr(Live, "end_run", interrupt)
    assert tune("--trials=3").exit_code == 130
    monkeypatch.setattr(Live, "end_run", ended)
    done = tune("--trials=3")
    assert done.exit_code == 0, done.output
    found = trials()
    assert len(found) == 3 and found[0].params["learning_rate"] == 0.001  # the defaults first
    best = max(found, key=lambda trial: trial.value)
    (file,) = Path("tuning/tuned").glob("SASRec-*.yaml")
    written = yaml.safe_load(file.read_text())
    assert written["learning_rate"] == best.value == best.params["learning_rate"]
    assert isinstance(written["n_layers"], int)
    assert f"written  {file}" in done.output
    (entry,) = parse_models("SASRec", ["--dataset=tiny"], [str(file)])
    assert entry.config["n_layers"] == written["n_layers"]


@pytest.mark.usefixtures("quick_runs")
def test_a_trial_that_was_cut_off_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(self: Live) -> None:
        raise KeyboardInterrupt

    show = Live.show
    monkeypatch.setattr(Live, "show", interrupt)
    assert tune("--trials=1").exit_code == 130
    (folder,) = Path("tuning/trials").glob("SASRec-*/0")
    last = folder / "saved/SASRec-x-last.pth"
    last.parent.mkdir(exist_ok=True)
    last.touch()
    monkeypatch.setattr("recbole_llm.tasks.compare.cells.load_run", lambda *_: {})
    for name in ("scores.txt", "result.json"):  # written if the script has ended by now
        (folder / name).unlink(missing_ok=True)
    (folder / "scores.txt").write_text("0.7\n")
    assert tune("--trials=1").exit_code == 130  # a resumed trial can be stopped, too
    monkeypatch.setattr(Live, "show", show)
    assert tune("--trials=1").exit_code == 0
    found = trials()
    states = [(t.state.name, t.params["learning_rate"]) for t in found]
    assert states == [("FAIL", 0.001), ("FAIL", 0.001), ("COMPLETE", 0.001)]
    assert Path("started.txt").read_text().splitlines()[-1] == f"SASRec 2020 {last}"
    assert found[-1].intermediate_values[1] == 0.7  # the validation before the stop
    assert not last.parent.exists()


@pytest.mark.usefixtures("quick_runs")
def test_a_trial_that_ended_before_a_kill_is_not_repeated(
    started: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(*_: Any) -> None:
        raise KeyboardInterrupt

    told = tuning._record_outcome
    monkeypatch.setattr(tuning, "_record_outcome", killed)
    assert tune("--trials=1").exit_code == 130
    (folder,) = Path("tuning/trials").glob("SASRec-*/0")
    assert (folder / "result.json").is_file() and trials()[0].state.name == "RUNNING"
    (folder / "saved").mkdir(exist_ok=True)
    monkeypatch.setattr(tuning, "_record_outcome", told)
    done = tune("--trials=2")
    assert done.exit_code == 0, done.output
    first, second = trials()
    assert (first.state.name, first.value) == ("COMPLETE", first.params["learning_rate"])
    assert second.state.name == "COMPLETE" and second.params != first.params
    assert started.read_text().splitlines() == ["SASRec 2020"] * 2 + ["SASRec 2021"]
    assert not (folder / "saved").exists()


@pytest.mark.usefixtures("quick_runs")
def test_a_new_study_takes_nothing_of_a_removed_ones_trials(
    started: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(jobs: Iterator[Any], *_: Any) -> Iterator[Any]:
        next(jobs)
        raise KeyboardInterrupt
        yield

    assert tune("--trials=1").exit_code == 0
    Path("tuning/tuning.db").unlink()
    with monkeypatch.context() as patched:
        patched.setattr(tuning, "run_jobs", killed)
        assert tune("--trials=1").exit_code == 130
    assert tune("--trials=1").exit_code == 0
    assert [trial.state.name for trial in trials()] == ["FAIL", "COMPLETE"]
    assert len(started.read_text().splitlines()) == 2


@pytest.mark.usefixtures("quick_runs")
def test_a_score_that_is_no_number_counts_as_failed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cells, "read_best_score", lambda folder: float("nan"))
    done = tune("--trials=2")
    assert done.exit_code == 2 and len(trials()) == 2
    assert "no trial ended well: its best score on validation is nan" in done.output


@pytest.mark.usefixtures("quick_runs")
def test_no_settings_are_tried_twice(started: Path) -> None:
    """Two choices give two trials, whatever the budget."""
    done = tune("--trials=6", "--search=n_layers=[1,2]", "--learning_rate=0.5", "--jobs=2")
    assert done.exit_code == 0, done.output
    runs = started.read_text().splitlines()
    assert runs[:2] == ["SASRec 2020"] * 2 and set(runs[2:]) == {"SASRec 2021"}
    kept = [trial for trial in trials() if is_counted(trial)]
    assert sorted(trial.params["n_layers"] for trial in kept) == ["1", "2"]
    (file,) = Path("tuning/tuned").glob("*.yaml")
    assert "best of 2 trials" in file.read_text()
    assert done.output.count("SASRec: all 2 settings of the search were tried\n") == 1
    found = tune("--trials=2", "--search=n_layers=[1,2]", "--learning_rate=0.5")
    assert found.exit_code == 0 and "settings of the search" not in found.output


@pytest.mark.usefixtures("quick_runs")
def test_a_key_that_is_set_to_its_default_is_not_searched() -> None:
    assert tune("--trials=1").exit_code == 0
    (every,) = Path("tuning/tuned").glob("*.yaml")
    assert tune("--trials=1", "--n_layers=2").exit_code == 0
    (other,) = set(Path("tuning/tuned").glob("*.yaml")) - {every}
    keys = [set(yaml.safe_load(file.read_text())) for file in (every, other)]
    assert keys[0] - keys[1] == {"n_layers"} and keys[1] < keys[0]


@pytest.mark.usefixtures("quick_runs")
def test_failed_trials_count_and_one_line_says_why() -> None:
    done = tune("--trials=2", "--learning_rate=1e30")
    assert done.exit_code == 2
    assert "error: SASRec: no trial ended well: the training loss of SASRec is nan" in done.output
    assert "; with a larger --trials the same command searches on" in done.output
    assert [trial.state.name for trial in trials()] == ["FAIL", "FAIL"]


@pytest.mark.usefixtures("quick_runs")
def test_a_longer_search_before_is_no_advantage(started: Path) -> None:
    """With a budget of two, the best of the first two trials counts, and not the best of four."""
    search = "--search=learning_rate=[0.1,0.2,0.3,0.4]"
    common = ["--n_layers=1", "--hidden_size=64", search]
    found = []
    for count in (2, 4, 2):
        done = tune(f"--trials={count}", *common)
        assert done.exit_code == 0, done.output
        (file,) = Path("tuning/tuned").glob("SASRec-*.yaml")
        found.append(file.read_text())
        assert f"best of {count} trials" in found[-1]
    assert found[0] == found[2] != found[1]
    assert yaml.safe_load(found[1])["learning_rate"] == 0.4
    runs = started.read_text().splitlines()
    # One repeat with the second seed: the best of two trials is also the best of four.
    assert runs == [*["SASRec 2020"] * 2, "SASRec 2021", *["SASRec 2020"] * 2]
