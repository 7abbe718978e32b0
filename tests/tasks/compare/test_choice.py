"""Which settings a search chooses: those that do well with two seeds."""

from __future__ import annotations

import math
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
from searches import trials, tune

from recbole_llm.core.files import write_json
from recbole_llm.tasks.compare.entries import parse_models
from recbole_llm.tasks.compare.executors import Local
from recbole_llm.tasks.compare.pool import Outcome

optuna = pytest.importorskip("optuna")
from recbole_llm.tasks.compare import choice  # noqa: E402

pytestmark = pytest.mark.usefixtures("tiny")


def trial_of(rate: float) -> int:
    (number,) = (t.number for t in trials() if float(t.params["learning_rate"]) == rate)
    return int(number)


@pytest.mark.usefixtures("quick_runs")
@pytest.mark.parametrize(
    ("lucky", "said"),
    [(0.8, "best 0.0100 on validation"), (0.9, "failed: the training loss of SASRec is nan")],
    ids=["low", "failed"],
)
def test_settings_that_do_well_with_one_seed_alone_are_not_chosen(
    lucky: float, said: str, started: Path
) -> None:
    """A trial's score is its learning rate, but the lucky one fails or scores .01 when repeated."""
    command = ["--trials=3", f"--search=learning_rate=[0.1,0.5,{lucky}]"]
    done = tune(*command)
    assert done.exit_code == 0, done.output
    lost, held = (f"{n} with seed 2021: " for n in (trial_of(lucky), trial_of(0.5)))
    assert f"SASRec, trial {lost}{said}" in done.output
    assert f"SASRec, trial {held}best 0.5000 on validation" in done.output
    best = "best of validation 0.5000, 0.5000 with seed 2021"
    assert f"{best} (trial {trial_of(0.5)}): --learning_rate=0.5" in done.output
    assert started.read_text().splitlines() == ["SASRec 2020"] * 3 + ["SASRec 2021"] * 2
    again = tune(*command)  # what failed is tried again, what ended is not
    assert again.exit_code == 0 and best in again.output
    assert len(started.read_text().splitlines()) == (5 if lucky == 0.8 else 6)


@pytest.mark.usefixtures("quick_runs")
def test_a_search_whose_settings_all_fail_with_a_second_seed_ends_in_one_line() -> None:
    done = tune("--trials=2", "--search=learning_rate=[0.9,0.95]")
    assert done.exit_code == 2
    assert "error: SASRec: no trial ended well with a second seed" in done.output


def test_repeats_at_once_change_no_choice(monkeypatch: pytest.MonkeyPatch) -> None:
    """Trial 1 is chosen before trial 0, which is repeated at the same time, gets its turn."""
    (entry,) = parse_models("SASRec", ["--dataset=tiny"])
    layers = {"n_layers": optuna.distributions.IntDistribution(0, 9)}
    tried = []
    for number, value in enumerate((0.60, 0.61, 0.1)):
        params = {"params": {"n_layers": number + 1}, "distributions": layers}
        tried.append(optuna.trial.create_trial(value=value, **params))
        tried[number].number = number
    second = {0: 0.7, 1: 0.6}

    def two_at_once(jobs: Iterator[Any], *_: object) -> Iterator[Outcome[Any]]:
        for job in reversed(list(islice(jobs, 2))):
            assert job.payload.number in second
            result = {"best_valid_score": second[job.payload.number]}
            (job.folder / "saved").mkdir(parents=True)
            write_json(job.folder / "result.json", result, "")
            yield Outcome(job, 1.0)

    monkeypatch.setattr(choice, "run_jobs", two_at_once)
    chosen = choice.choose_trial(tried, entry, Path("folder"), Local(2))
    assert (chosen.trial.number, chosen.scores) == (1, "0.6100, 0.6000 with seed 2021")
    assert not list(Path("folder").rglob("saved"))


@pytest.mark.parametrize("lucky", [0.5, math.nan])
def test_the_mean_of_two_seeds_counts(lucky: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """The metric is an error, so the smallest mean is best; the third trial is never repeated."""
    labels = ["--threshold={'rating': 3}", "--valid_metric=LogLoss", "--dataset=tiny"]
    (entry,) = parse_models("DIN", labels)
    tried = [optuna.trial.create_trial(value=value) for value in (0.3, 0.2, 0.5)]
    for number, trial in enumerate(tried):
        trial.number = number
    second = {0: 0.35, 1: lucky}
    monkeypatch.setattr(
        choice, "_repeat", lambda trials, *_: ((t.number, second[t.number]) for t in trials)
    )
    chosen = choice.choose_trial(tried, entry, Path(), None)  # type: ignore[arg-type]
    assert (chosen.trial.number, chosen.scores) == (0, "0.3000, 0.3500 with seed 2021")
    assert chosen.score == pytest.approx(0.325)


@pytest.mark.usefixtures("quick_runs")
@pytest.mark.parametrize(
    ("protocol", "kept"),
    [("random", True), ("leave-one-out", False), ("random --split_seed=7", False)],
)
def test_the_second_seed_draws_no_other_split(
    protocol: str, kept: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another split could validate on interactions that the first split tests."""
    repeated: list[str] = []
    command = choice.trial_command
    monkeypatch.setattr(
        choice,
        "trial_command",
        lambda tried, *args: repeated.extend(tried.argv) or command(tried, *args),
    )
    arguments = [*f"--protocol={protocol}".split(), "--trials=2", f"--seed={2**32 - 1}"]
    done = tune(*arguments, model="BPR")
    assert done.exit_code == 0, done.output
    assert "--seed=0" in repeated
    assert (f"--split_seed={2**32 - 1}" in repeated) == kept
