"""Searches for settings: their spaces, budgets, pruning, and going on."""

from __future__ import annotations

import json
import os
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner, Result

from recbole_llm.cli import main
from recbole_llm.commands.shared import split
from recbole_llm.core.settings import Between
from recbole_llm.models.stock.settings import SASRecSettings
from recbole_llm.tasks.compare.entries import parse_models
from recbole_llm.tasks.compare.live import Live
from recbole_llm.tasks.compare.space import defaults, distributions, space_of

optuna = pytest.importorskip("optuna")
from recbole_llm.tasks.compare import tuning  # noqa: E402
from recbole_llm.tasks.compare.trials import ask, is_counted  # noqa: E402

pytestmark = pytest.mark.usefixtures("tiny")
OURS = ["PAD", "LLMESR", "AlphaRec", "Molar", "BAHE", "LLMCF", "LLMCFRetrieval"]
STOCK = ["SASRec", "GRU4Rec", "LightGCN", "DIN", "DeepFM", "DCN", "NeuMF", "Caser", "WideDeep",
         "SpectralCF", "PNN"]  # fmt: skip


def tune(*arguments: str) -> Result:
    return CliRunner().invoke(main, ["tune", "--model=SASRec", "--dataset=tiny", *arguments])


def trials(folder: str = "tuning") -> list[Any]:
    storage = f"sqlite:///{folder}/tuning.db"
    (name,) = optuna.get_all_study_names(storage)
    found: list[Any] = optuna.load_study(study_name=name, storage=storage).trials
    return found


@pytest.mark.parametrize("model", [*OURS, *STOCK, "SASRec --item_init=llm"])
def test_every_method_has_a_space_of_its_own_keys_that_contains_the_defaults(model: str) -> None:
    (entry,) = parse_models(model, ["--dataset=tiny"])
    space = space_of(entry)
    assert "learning_rate" in space and len(space) >= 3
    assert ("item_init_std" in space) == ("item_init" in model)
    for key, where in space.items():
        default = entry.config[key]
        ends = (where.low, where.high) if isinstance(where, Between) else where
        for value in ends:
            assert entry.with_own({key: value}).config[key] == value
        if default is not None:
            inside = where.low <= default <= where.high if isinstance(where, Between) else (
                default in where
            )  # fmt: skip
            assert inside, (key, default)


def test_the_first_trial_is_of_the_defaults() -> None:
    (entry,) = parse_models("NeuMF", ["--dataset=tiny"])
    space = space_of(entry)
    assert space["mlp_hidden_size"][0] == [128, 64] and space["dropout_prob"][0] == 0.1
    first = defaults(space, entry.config)
    assert first["mlp_hidden_size"] == "[128, 64]" and set(first) == set(space)
    assert defaults({"dropout_prob": (0.0, 0.2)}, {"dropout_prob": 0}) == {"dropout_prob": "0.0"}
    (entry,) = parse_models("SASRec --item_init=llm", ["--dataset=tiny"])
    assert defaults(space_of(entry), entry.config)["item_init_std"] == 0.1
    assert defaults({"x": Between(0.25, 4.0)}, {"x": None})["x"] == pytest.approx(1.0)


def test_a_data_set_that_is_not_there_is_named_before_any_trial() -> None:
    done = tune("--dataset=tinny", "--trials=4")
    assert done.exit_code == 2 and "dataset 'tinny'" in done.output
    assert "trial" not in done.output


def test_one_model_is_searched_at_a_time() -> None:
    done = CliRunner().invoke(main, ["tune", "--model=PAD; SASRec", "--dataset=tiny", "--trials=1"])
    assert done.exit_code == 2 and "error: model: tune takes one model" in done.output


def test_keys_that_are_set_are_not_searched() -> None:
    (entry,) = parse_models("SASRec --n_layers=1", ["--dataset=tiny", "--learning_rate=0.01"])
    assert not {"n_layers", "learning_rate"} & set(space_of(entry))


def test_keys_that_the_model_does_not_read_are_not_searched() -> None:
    (entry,) = parse_models("LLMCF --backbone=AutoInt", ["--dataset=tiny", "--encoder=bundled"])
    assert "context_size" in space_of(entry) and "dropout_prob" not in space_of(entry)


def test_a_search_of_named_keys_is_of_them_alone() -> None:
    (entry,) = parse_models("SASRec", ["--dataset=tiny"])
    own = space_of(entry)
    space = space_of(entry, "learning_rate; n_layers=[1, 3];attn_dropout_prob = 0.05..0.5;")
    assert space == {
        "learning_rate": own["learning_rate"],
        "n_layers": (1, 3),
        "attn_dropout_prob": Between(0.05, 0.5),
    }


@pytest.mark.parametrize(
    ("space", "message"),
    [
        ({"hiden_size": (8, 16)}, "the key 'hiden_size' is unknown; did you mean 'hidden_size"),
        (
            {"hidden_size": Between(8, 64)},
            "hidden_size: expected an integer .*; list whole numbers",
        ),
        ({"hidden_size": (8, 0)}, "hidden_size: expected an integer of at least 1, got 0"),
        (
            {"hidden_size": 8},
            r"hidden_size: expected \(a, b\) or Between, the lower end first, got 8",
        ),
        ({"learning_rate": Between(0.1, 0.1)}, r"learning_rate: .* got Between\(low=0.1, high=0.1"),
    ],
)
@pytest.mark.parametrize("named", [False, True])
def test_a_models_own_space_that_cannot_be_is_refused(
    monkeypatch: pytest.MonkeyPatch, space: Any, message: str, named: bool
) -> None:
    monkeypatch.setattr(SASRecSettings, "search_space", space)
    monkeypatch.setattr(SASRecSettings, "__module__", "theirs.settings")  # a plugin's
    (entry,) = parse_models("SASRec", ["--dataset=tiny"])
    with pytest.raises(ValueError, match=f"^search_space: SASRec: {message}"):
        space_of(entry, next(iter(space)) if named else None)


@pytest.mark.parametrize(
    ("key", "message"),
    [
        ("valid_metric=['NDCG@10','MRR@10']", "valid_metric says how models are judged, and on wh"),
        ("eval_args=[{'mode':'full'},{'mode':'uni100'}]", "eval_args says how models are judged"),
        ("protocol=['leave-one-out','random']", "protocol says how models are judged"),
        ("split_seed=1..9", "split_seed says how models are judged"),
        ("repeatable=[True,False]", "repeatable says how models are judged"),
        ("eval_step=[1,5]", "eval_step says how models are judged"),
        ("seed=[1,2]", "seed is of where and how a run is done, and no setting"),
        ("resume=['a','b']", "resume is of where and how a run is done, and no setting"),
        ("checkpoint_dir=['a','b']", "checkpoint_dir is of where and how"),
        ("output=['a','b']", "output is of where and how"),
        ("data_path=['a','b']", "data_path is of where and how"),
    ],
)
def test_keys_that_are_no_settings_of_a_model_are_not_searched(
    monkeypatch: pytest.MonkeyPatch, key: str, message: str
) -> None:
    (entry,) = parse_models("SASRec", ["--dataset=tiny"])
    with pytest.raises(ValueError, match=f"^search: {message}"):
        space_of(entry, key)
    monkeypatch.setattr(SASRecSettings, "search_space", {key.partition("=")[0]: ("a", "b")})
    monkeypatch.setattr(SASRecSettings, "__module__", "theirs.settings")  # a plugin's
    with pytest.raises(ValueError, match=f"^search_space: {message}"):
        space_of(entry)


def test_files_that_numbers_depend_on_may_be_searched() -> None:
    (entry,) = parse_models("PAD", ["--dataset=tiny", "--encoder=precomputed"])
    space = space_of(entry, "embedding_path=['a.npz','b.npz']")
    assert space == {"embedding_path": ("a.npz", "b.npz")}


@pytest.mark.parametrize(
    ("search", "message"),
    [
        (
            "learning_rat",
            "search: the key 'learning_rat' is unknown; did you mean 'learning_rate'?",
        ),
        ("n_heads=0..4", "search: expected a range above 0, the lower end first, got 0..4"),
        ("n_heads=2", "search: n_heads: expected [a,b] or low..high, got 2"),
        ("n_layers=1..4", "search: SASRec: n_layers: expected an integer of at least 1, got 1.9"),
        ("n_heads=[2,0]", "search: SASRec: n_heads: expected an integer of at least 1, got 0"),
        ("epochs", "search: epochs: say where, such as --search='epochs=[…,…]'"),
        (
            "hiden_size=[8,16]",
            "search: SASRec: the key 'hiden_size' is unknown; did you mean 'hidden",
        ),
        ("seed", "search: seed is set to 5; leave out --seed"),
        (
            "n_layers=[1,2]; n_heads=[1,2]; n_layers=[3,4]",
            "search: n_layers is named twice; name it",
        ),
        (" ; ", "search: name keys, such as --search="),
    ],
)
def test_a_search_that_cannot_be_is_refused_before_any_trial(search: str, message: str) -> None:
    done = tune("--trials=2", "--seed=5", f"--search={search}")
    assert done.exit_code == 2 and f"error: {message}" in done.output
    assert not Path("tuning/trials").exists()


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
    _, files = split(shlex.split(line.partition(" run ")[2]))
    assert len(files) == 1 and Path(files[0]).is_file()
    with pytest.raises(ValueError, match="config_files: 'a's.yaml': No closing quotation; put"):
        split(["--config_files=a's.yaml"])


@pytest.mark.usefixtures("quick_runs")
def test_a_search_goes_on_and_writes_the_best(monkeypatch: pytest.MonkeyPatch) -> None:
    ended = Live.ended

    def interrupt(self: Live, *args: Any) -> None:
        ended(self, *args)
        if len(trials()) == 2:
            raise KeyboardInterrupt

    monkeypatch.setattr(Live, "ended", interrupt)
    assert tune("--trials=3").exit_code == 130
    monkeypatch.setattr(Live, "ended", ended)
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
def test_what_was_cut_off_is_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
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
    for name in ("scores.txt", "result.json"):  # of the script, which may have ended by now
        (folder / name).unlink(missing_ok=True)
    (folder / "scores.txt").write_text("0.7\n")
    assert tune("--trials=1").exit_code == 130  # what goes on can be stopped, too
    monkeypatch.setattr(Live, "show", show)
    assert tune("--trials=1").exit_code == 0
    found = trials()
    states = [(t.state.name, t.params["learning_rate"]) for t in found]
    assert states == [("FAIL", 0.001), ("FAIL", 0.001), ("COMPLETE", 0.001)]
    assert Path("started.txt").read_text().splitlines()[-1] == f"SASRec 2020 {last}"
    assert found[-1].intermediate_values[1] == 0.7  # the validation before the stop
    assert not last.parent.exists()


@pytest.mark.usefixtures("quick_runs")
def test_what_ended_unheard_is_not_done_again(
    started: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(*_: Any) -> None:
        raise KeyboardInterrupt

    told = tuning._told
    monkeypatch.setattr(tuning, "_told", killed)
    assert tune("--trials=1").exit_code == 130
    (folder,) = Path("tuning/trials").glob("SASRec-*/0")
    assert (folder / "result.json").is_file() and trials()[0].state.name == "RUNNING"
    (folder / "saved").mkdir(exist_ok=True)
    monkeypatch.setattr(tuning, "_told", told)
    done = tune("--trials=2")
    assert done.exit_code == 0, done.output
    first, second = trials()
    assert (first.state.name, first.value) == ("COMPLETE", first.params["learning_rate"])
    assert second.state.name == "COMPLETE" and second.params != first.params
    assert len(started.read_text().splitlines()) == 2
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


def test_a_damaged_file_of_trials_is_named() -> None:
    Path("tuning").mkdir()
    Path("tuning/tuning.db").write_text("no database\n" * 10)
    done = tune("--trials=1")
    assert done.exit_code == 2
    assert done.output.startswith(
        "error: 'tuning/tuning.db', where the trials are, cannot be read or written (file is not a "
        "database); free some space if the disk is full; if the file is damaged remove it"
    )


def test_a_search_that_goes_on_draws_other_settings() -> None:
    (entry,) = parse_models("SASRec", ["--dataset=tiny"])
    space = {"learning_rate": Between(1e-4, 1e-2)}
    drawn = []
    for _ in range(3):  # as often as the command is given
        study = tuning._study("on", entry, space, Path(), 1)
        for _ in range(2):
            trial = study.ask(distributions(space))
            drawn.append(trial.params["learning_rate"])
            study.tell(trial, 0.1)
    assert len(set(drawn)) == len(drawn)


@pytest.mark.usefixtures("quick_runs")
def test_a_score_that_is_no_number_counts_as_failed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tuning, "best_score", lambda folder: float("nan"))
    done = tune("--trials=2")
    assert done.exit_code == 2 and len(trials()) == 2
    assert "no trial ended well: its best score on validation is nan" in done.output


def test_a_search_needs_validation() -> None:
    done = tune("--trials=1", "--eval_args={'split': {'LS': 'test_only'}, 'order': 'TO'}")
    assert done.exit_code == 2 and "leaves nothing for validation" in done.output


@pytest.mark.parametrize(("bigger", "shown"), [(True, "best 0.3000"), (False, "best 0.1000")])
def test_the_best_trial_is_shown_and_of_runs_the_mean(bigger: bool, shown: str) -> None:
    (entry,) = parse_models("SASRec", ["--dataset=tiny"])
    entry.config["valid_metric_bigger"] = bigger
    for live, said in (
        (Live(["a"], 3, 1, "trial", entry.better), shown),
        (Live(["a"], 3, 1), "mean 0.2000"),
    ):
        for score in (0.3, 0.1):
            live.there("a", 1.0, score)
        assert str(live._lines["a"]) == f"2 of 3 done, {said}"


def test_a_trial_that_lags_behind_is_stopped_once_that_is_safe() -> None:
    """Four trials end at .2; the fifth is stopped at .1 from its fifth validation on."""
    (entry,) = parse_models("SASRec", ["--dataset=tiny"])
    space = {"learning_rate": Between(1e-4, 1e-2)}
    study = tuning._study("five", entry, space, Path(), 1)
    live = Live(["SASRec"], 5, 1)
    for _ in range(4):
        trial = study.ask(distributions(space))
        job = tuning._job(trial, entry, Path("trial"), live)
        assert not any(job.heard(number, 0.2) for number in (1, 2, 3, 4, 5))
        study.tell(trial, 0.2)
    last = tuning._job(study.ask(distributions(space)), entry, Path("trial"), live)
    assert [last.heard(number, 0.1) for number in range(1, 6)] == [False] * 4 + [True]
    (phased,) = parse_models("PAD", ["--dataset=tiny"])  # whose validations are not of one training
    job = tuning._job(study.ask(distributions(space)), phased, Path("trial"), Live(["PAD"], 1, 1))
    assert not any(job.heard(number, 0.1) for number in range(1, 6))
    live.close()


def test_a_trial_is_not_stopped_where_few_have_been() -> None:
    """Four end after six validations; behind the one that goes on, the next one goes on, too."""
    (entry,) = parse_models("SASRec", ["--dataset=tiny"])
    space = {"learning_rate": Between(1e-4, 1e-2)}
    study = tuning._study("six", entry, space, Path(), 1)
    for scores in ([0.1] * 6, [0.1] * 6, [0.1] * 6, [0.1] * 6, [0.2] * 8, [0.15] * 8):
        trial = study.ask(distributions(space))
        job = tuning._job(trial, entry, Path("trial"), Live(["SASRec"], 6, 1))
        assert not any(job.heard(number, score) for number, score in enumerate(scores, 1))
        study.tell(trial, max(scores))


@pytest.mark.usefixtures("quick_runs")
def test_no_settings_are_tried_twice(started: Path) -> None:
    """Of two choices there are two trials, whatever the budget."""
    done = tune("--trials=6", "--search=n_layers=[1,2]", "--learning_rate=0.5", "--jobs=2")
    assert done.exit_code == 0, done.output
    assert len(started.read_text().splitlines()) == 2
    kept = [trial for trial in trials() if is_counted(trial)]
    assert sorted(trial.params["n_layers"] for trial in kept) == ["1", "2"]
    (file,) = Path("tuning/tuned").glob("*.yaml")
    assert "best of 2 trials" in file.read_text()
    assert done.output.count("SASRec: all 2 settings of the search were tried\n") == 1
    found = tune("--trials=2", "--search=n_layers=[1,2]", "--learning_rate=0.5")
    assert found.exit_code == 0 and "settings of the search" not in found.output


def test_of_choices_all_are_tried_in_an_order_that_the_seed_says() -> None:
    """However much the sampler likes some of them."""
    (entry,) = parse_models("SASRec", ["--dataset=tiny"])
    space = {"n_layers": (1, 2, 3), "hidden_size": (64, 128), "n_heads": (1, 2, 4)}
    orders = []
    for name in ("one", "two"):
        sampler, live = optuna.samplers.TPESampler(seed=2020), Live(["SASRec"], 18, 1)
        study, tried = optuna.create_study(sampler=sampler, direction="maximize"), []
        for job in tuning._jobs(study, entry, space, Path(name), 30, live):
            tried.append(tuple(job.what.params.values()))
            study.tell(job.what, 0.1 * int(job.what.params["n_layers"]))
        orders.append(tried)
        assert len(set(tried)) == len(tried) == 18
        assert len(study.trials) <= 2 * 18  # a proposal that was tried, and another in its place
    assert orders[0] == orders[1]


@pytest.mark.usefixtures("quick_runs")
def test_a_key_that_is_set_to_its_default_stays_what_it_is() -> None:
    assert tune("--trials=1").exit_code == 0
    (every,) = Path("tuning/tuned").glob("*.yaml")
    assert tune("--trials=1", "--n_layers=2").exit_code == 0
    (other,) = set(Path("tuning/tuned").glob("*.yaml")) - {every}
    keys = [set(yaml.safe_load(file.read_text())) for file in (every, other)]
    assert keys[0] - keys[1] == {"n_layers"} and keys[1] < keys[0]
    models = "--models=SASRec; two: SASRec --n_layers=2"
    arguments = ["compare", models, "--dataset=tiny", "--seeds=1", "--tune=1"]
    done = CliRunner().invoke(main, arguments)
    assert done.exit_code == 0, done.output
    files = Path("comparison/tuned").glob("*.yaml")
    assert sorted("n_layers" in yaml.safe_load(file.read_text()) for file in files) == [False, True]


def test_a_trial_whose_keys_were_being_drawn_is_drawn_alike_again() -> None:
    (entry,) = parse_models("SASRec", ["--dataset=tiny"])
    space = space_of(entry)
    study = tuning._study("cut", entry, space, Path(), 1)
    study.ask({"n_layers": distributions(space)["n_layers"]})  # the first key, and killed then
    tuning._left(study, Path("trials"))
    assert study.ask(distributions(space)).params == defaults(space, entry.config)


def test_a_trial_takes_until_its_result_whenever_that_is_heard_of() -> None:
    (entry,) = parse_models("SASRec", ["--dataset=tiny"])
    space = {"learning_rate": Between(1e-4, 1e-2)}
    study = tuning._study("paused", entry, space, Path(), 1)
    study.ask(distributions(space))
    start = study.trials[0].datetime_start.timestamp()
    result = Path("trials/0/result.json")
    result.parent.mkdir(parents=True)
    result.write_text('{"best_valid_score": 0.5}')
    os.utime(result, (start + 10, start + 10))
    tuning._left(study, Path("trials"))
    live = Live(["SASRec"], 2, 1)
    assert not list(tuning._jobs(study, entry, space, Path("trials"), 1, live))
    assert live._lines["SASRec"].seconds == [pytest.approx(10.0)]


def test_texts_are_written_as_they_are() -> None:
    (entry,) = parse_models("PAD", ["--dataset=tiny"])
    found = {"encoder_revision": "1.10", "n_layers": "2", "learning_rate": 0.25}
    kinds = {key: optuna.distributions.CategoricalDistribution([v]) for key, v in found.items()}
    best = optuna.trial.create_trial(params=found, distributions=kinds, value=0.5)
    file = tuning._write(Path("best.yaml"), entry, best, 1)
    written = {"encoder_revision": "1.10", "n_layers": 2, "learning_rate": 0.25}
    assert yaml.safe_load(file.read_text()) == written


@pytest.mark.usefixtures("quick_runs")
def test_failed_trials_count_and_one_line_says_why() -> None:
    done = tune("--trials=2", "--learning_rate=1e30")
    assert done.exit_code == 2
    assert "error: SASRec: no trial ended well: Training loss is nan" in done.output
    assert [trial.state.name for trial in trials()] == ["FAIL", "FAIL"]


@pytest.mark.usefixtures("quick_runs")
def test_compare_tunes_every_model_alike_and_runs_the_best(started: Path) -> None:
    command = ["compare", "--models=SASRec; GRU4Rec", "--dataset=tiny", "--seeds=7,8", "--tune=2"]
    done = CliRunner().invoke(main, command)
    assert done.exit_code == 0, done.output
    assert sorted(started.read_text().splitlines()) == [  # the search has the first seed
        *["GRU4Rec 7"] * 3, "GRU4Rec 8", *["SASRec 7"] * 3, "SASRec 8"
    ]  # fmt: skip
    best = {
        file.name.split("-")[0]: yaml.safe_load(file.read_text())["learning_rate"]
        for file in Path("comparison/tuned").glob("*.yaml")
    }
    table = Path("comparison/result.json").read_text()
    assert all(f"--learning_rate={rate}" in table for rate in best.values())
    command[1] = "--models=first: SASRec; second: GRU4Rec"  # which are the same searches
    assert CliRunner().invoke(main, command).exit_code == 0
    assert len(started.read_text().splitlines()) == 8


@pytest.mark.usefixtures("quick_runs")
def test_compare_runs_a_model_without_keys_to_search_as_it_is(started: Path) -> None:
    command = ["compare", "--models=SASRec; Pop", "--dataset=tiny", "--seeds=1", "--tune=1"]
    done = CliRunner().invoke(main, [*command, "--protocol=leave-one-out"])
    assert done.exit_code == 0, done.output
    assert "Pop: nothing to search; it runs as it is\n" in done.output
    assert sorted(started.read_text().splitlines()) == ["Pop 2020", "SASRec 2020", "SASRec 2020"]


@pytest.mark.usefixtures("quick_runs")
def test_a_longer_search_before_is_no_advantage(started: Path) -> None:
    """The best of the first two trials, as for any model, and not of all four."""
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
    assert len(started.read_text().splitlines()) == 4


@pytest.mark.usefixtures("quick_runs")
def test_a_failed_search_is_reported_and_the_others_carried_on() -> None:
    models = "--models=GRU4Rec --learning_rate=1e30; SASRec"
    command = ["compare", models, "--dataset=tiny", "--seeds=2", "--tune=2", "--baseline=SASRec"]
    done = CliRunner().invoke(main, command)
    assert done.exit_code == 2, done.output
    failed = "GRU4Rec --learning_rate=1e30, seed 2021 failed: no trial ended well: Training loss"
    assert f"- {failed} is nan" in done.output
    assert "error: 2 of 4 runs failed, see above; the same command tries them again, and with a " \
           "larger --tune it searches on" in done.output  # fmt: skip
    result = json.loads(Path("comparison/result.json").read_text())
    assert [row["label"] for row in result["rows"]] == ["SASRec"]
    alone = CliRunner().invoke(main, ["compare", models.partition(";")[0], *command[2:-1]])
    assert alone.exit_code == 2 and "error: no run ended well; GRU4Rec" in alone.output


def test_bad_numbers_are_refused() -> None:
    assert "error: a search needs at least 1 trial, got 0" in tune("--trials=0").output
    everything = ["--learning_rate=0.1", "--hidden_size=64", "--n_layers=1"]
    dropout = ["--hidden_dropout_prob=0.1", "--attn_dropout_prob=0.1", "--trials=1"]
    assert "every key that is searched is set" in tune(*everything, *dropout).output


def test_ranges_are_searched_on_a_scale_of_logarithms() -> None:
    found = distributions({"learning_rate": Between(1e-4, 1e-2), "n_layers": (1, 2)})
    rate, layers = found["learning_rate"], found["n_layers"]
    assert (rate.low, rate.high, rate.log) == (1e-4, 1e-2, True) and layers.choices == ("1", "2")


def test_settings_that_another_process_tries_are_not_tried_beside_it() -> None:
    study, space = optuna.create_study(), distributions({"n_layers": (1, 2)})
    running = [ask(study, space, seed=0) for _ in range(3)]
    assert running[2] is None
    assert {trial.params["n_layers"] for trial in running[:2] if trial is not None} == {"1", "2"}
