"""Searches that are refused before any trial."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from recbole_llm.cli import main

pytest.importorskip("optuna")
from optuna.storages import RDBStorage

pytestmark = pytest.mark.usefixtures("tiny")


def tune(*arguments: str) -> Result:
    return CliRunner().invoke(main, ["tune", "--model=SASRec", "--dataset=tiny", *arguments])


def test_a_data_set_that_is_not_there_is_named_before_any_trial() -> None:
    done = tune("--dataset=tinny", "--trials=4")
    assert done.exit_code == 2 and "dataset 'tinny'" in done.output
    assert "trial" not in done.output


def test_one_model_is_searched_at_a_time() -> None:
    done = CliRunner().invoke(main, ["tune", "--model=PAD; SASRec", "--dataset=tiny", "--trials=1"])
    assert done.exit_code == 2 and "error: model: tune takes one model" in done.output


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


def test_a_damaged_file_of_trials_is_named() -> None:
    Path("tuning").mkdir()
    Path("tuning/tuning.db").write_text("no database\n" * 10)
    done = tune("--trials=1")
    assert done.exit_code == 2
    assert done.output.startswith(
        "error: 'tuning/tuning.db', where the trials are, cannot be read or written (file is not a "
        "database); free some space if the disk is full; if the file is damaged remove it"
    )


def test_a_file_of_trials_of_another_version_of_optuna_is_named() -> None:
    Path("tuning").mkdir()
    RDBStorage("sqlite:///tuning/tuning.db")
    with closing(sqlite3.connect("tuning/tuning.db")) as file, file:
        file.execute("UPDATE version_info SET schema_version = 99, library_version = '99.0'")
        file.execute("UPDATE alembic_version SET version_num = 'v99.0.0'")
    done = tune("--trials=1")
    assert done.exit_code == 2
    assert done.output.startswith(
        "error: 'tuning/tuning.db', where the trials are, was written by another version of "
        "Optuna; use that version, or name another folder with --output (The runtime optuna"
    )


def test_a_search_needs_validation() -> None:
    done = tune("--trials=1", "--eval_args={'split': {'LS': 'test_only'}, 'order': 'TO'}")
    assert done.exit_code == 2 and "leaves nothing for validation" in done.output


def test_a_search_without_trials_is_refused() -> None:
    assert "error: a search needs at least 1 trial, got 0" in tune("--trials=0").output


def test_a_search_without_keys_to_search_is_refused() -> None:
    everything = ["--learning_rate=0.1", "--hidden_size=64", "--n_layers=1"]
    dropout = ["--hidden_dropout_prob=0.1", "--attn_dropout_prob=0.1", "--trials=1"]
    assert "every key that is searched is set" in tune(*everything, *dropout).output
