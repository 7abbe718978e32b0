"""Trials of a search: which settings are drawn, which trials are stopped, how long they take."""

from __future__ import annotations

import math
import os
from pathlib import Path
from typing import Any

import pytest
import yaml

from recbole_llm.core.settings import Between
from recbole_llm.tasks.compare.entries import parse_models
from recbole_llm.tasks.compare.live import Live
from recbole_llm.tasks.compare.space import defaults, distributions, resolve_space

optuna = pytest.importorskip("optuna")
from recbole_llm.tasks.compare import tuning  # noqa: E402
from recbole_llm.tasks.compare.choice import Choice  # noqa: E402
from recbole_llm.tasks.compare.trials import ask_new_trial, count_settings  # noqa: E402

pytestmark = pytest.mark.usefixtures("tiny")
RATES = {"learning_rate": Between(1e-4, 1e-2)}


def test_a_search_that_goes_on_draws_other_settings() -> None:
    (entry,) = parse_models("SASRec", ["--dataset=tiny"])
    space = RATES
    drawn = []
    for _ in range(3):  # as if the command were given three times
        study = tuning._open_study("on", entry, space, Path(), 1)
        for _ in range(2):
            trial = study.ask(distributions(space))
            drawn.append(trial.params["learning_rate"])
            study.tell(trial, 0.1)
    assert len(set(drawn)) == len(drawn)


@pytest.mark.parametrize(("bigger", "shown"), [(True, "best 0.3000"), (False, "best 0.1000")])
def test_the_best_trial_is_shown_and_of_runs_the_mean(bigger: bool, shown: str) -> None:
    (entry,) = parse_models("SASRec", ["--dataset=tiny"])
    entry.config["valid_metric_bigger"] = bigger
    for live, said in (
        (Live(["a"], 3, 1, "trial", entry.better), shown),
        (Live(["a"], 3, 1), "mean 0.2000"),
    ):
        for score in (0.3, 0.1):
            live.count_run("a", 1.0, score)
        assert str(live._lines["a"]) == f"2 of 3 done, {said}"


def study_with_four_trials() -> Any:
    """A study of four trials, each with five validations of .2, none of which is stopped."""
    (entry,) = parse_models("SASRec", ["--dataset=tiny"])
    study = tuning._open_study("five", entry, RATES, Path(), 1)
    for _ in range(4):
        trial = study.ask(distributions(RATES))
        job = tuning._new_job(trial, entry, Path("trial"))
        assert not any(job.on_validation(number, 0.2) for number in range(1, 6))
        study.tell(trial, 0.2)
    return study


def test_a_trial_that_lags_behind_is_stopped_once_that_is_safe() -> None:
    """Four trials end at .2; the fifth is stopped at .1 from its fifth validation on."""
    study = study_with_four_trials()
    (entry,) = parse_models("SASRec", ["--dataset=tiny"])
    job = tuning._new_job(study.ask(distributions(RATES)), entry, Path("trial"))
    assert [job.on_validation(number, 0.1) for number in range(1, 6)] == [False] * 4 + [True]


def test_a_trial_of_several_phases_is_not_stopped() -> None:
    """The validations of its phases do not belong to one training."""
    study = study_with_four_trials()
    (phased,) = parse_models("PAD", ["--dataset=tiny"])
    job = tuning._new_job(study.ask(distributions(RATES)), phased, Path("trial"))
    assert not any(job.on_validation(number, 0.1) for number in range(1, 6))


def test_a_trial_is_not_stopped_where_few_have_been() -> None:
    """Only one trial has a seventh validation, so that the trial behind it is not stopped."""
    (entry,) = parse_models("SASRec", ["--dataset=tiny"])
    space = RATES
    study = tuning._open_study("six", entry, space, Path(), 1)
    for scores in ([0.1] * 6, [0.1] * 6, [0.1] * 6, [0.1] * 6, [0.2] * 8, [0.15] * 8):
        trial = study.ask(distributions(space))
        job = tuning._new_job(trial, entry, Path("trial"))
        assert not any(job.on_validation(number, score) for number, score in enumerate(scores, 1))
        study.tell(trial, max(scores))


def test_of_choices_all_are_tried_in_an_order_that_the_seed_says() -> None:
    """This holds although the sampler prefers some of them."""
    (entry,) = parse_models("SASRec", ["--dataset=tiny"])
    space = {"n_layers": (1, 2, 3), "hidden_size": (64, 128), "n_heads": (1, 2, 4)}
    orders = []
    for name in ("one", "two"):
        sampler, live = optuna.samplers.TPESampler(seed=2020), Live(["SASRec"], 18, 1)
        study, tried = optuna.create_study(sampler=sampler, direction="maximize"), []
        for job in tuning._new_jobs(study, entry, space, Path(name), 30, live):
            tried.append(tuple(job.payload.params.values()))
            study.tell(job.payload, 0.1 * int(job.payload.params["n_layers"]))
        orders.append(tried)
        assert len(set(tried)) == len(tried) == 18
        assert len(study.trials) <= 2 * 18  # each repeated proposal is replaced by one trial
    assert orders[0] == orders[1]


def test_a_trial_killed_while_its_keys_were_drawn_is_drawn_alike() -> None:
    (entry,) = parse_models("SASRec", ["--dataset=tiny"])
    space = resolve_space(entry)
    study = tuning._open_study("cut", entry, space, Path(), 1)
    study.ask({"n_layers": distributions(space)["n_layers"]})  # killed after the first key
    tuning._requeue_orphans(study, Path("trials"))
    assert study.ask(distributions(space)).params == defaults(space, entry.config)


def test_a_trial_takes_until_its_result_whenever_that_is_read() -> None:
    (entry,) = parse_models("SASRec", ["--dataset=tiny"])
    space = RATES
    study = tuning._open_study("paused", entry, space, Path(), 1)
    study.ask(distributions(space))
    start = study.trials[0].datetime_start.timestamp()
    result = Path("trials/0/result.json")
    result.parent.mkdir(parents=True)
    result.write_text('{"best_valid_score": 0.5}')
    os.utime(result, (start + 10, start + 10))
    tuning._requeue_orphans(study, Path("trials"))
    live = Live(["SASRec"], 2, 1)
    assert not list(tuning._new_jobs(study, entry, space, Path("trials"), 1, live))
    assert live._lines["SASRec"].seconds == [pytest.approx(10.0)]


def test_texts_are_written_as_they_are() -> None:
    (entry,) = parse_models("PAD", ["--dataset=tiny"])
    found = {"encoder_revision": "1.10", "n_layers": "2", "learning_rate": 0.25}
    kinds = {key: optuna.distributions.CategoricalDistribution([v]) for key, v in found.items()}
    best = optuna.trial.create_trial(params=found, distributions=kinds, value=0.5)
    file = tuning._write_best(Path("best.yaml"), entry, Choice(best), 1)
    written = {"encoder_revision": "1.10", "n_layers": 2, "learning_rate": 0.25}
    assert yaml.safe_load(file.read_text()) == written


def test_settings_that_another_process_tries_are_not_tried_beside_it() -> None:
    study, space = optuna.create_study(), distributions({"n_layers": (1, 2)})
    running = [ask_new_trial(study, space, seed=0) for _ in range(3)]
    assert running[2] is None
    assert {trial.params["n_layers"] for trial in running[:2] if trial is not None} == {"1", "2"}


def test_the_settings_of_a_space_are_counted() -> None:
    listed: dict[str, Any] = {"n_layers": (1, 2), "hidden_size": [32, 64, 64.0, "64"]}
    assert count_settings(distributions(listed)) == 2 * 3  # choices are texts: 64.0 is another one
    assert count_settings(distributions({**listed, **RATES})) == math.inf
