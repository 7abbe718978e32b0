"""Searches with the command `tune`, and their trials."""

from __future__ import annotations

from typing import Any

from click.testing import CliRunner, Result

from recbole_llm.cli import main


def tune(*arguments: str, model: str = "SASRec") -> Result:
    return CliRunner().invoke(main, ["tune", f"--model={model}", "--dataset=tiny", *arguments])


def trials(folder: str = "tuning") -> list[Any]:
    import optuna

    storage = f"sqlite:///{folder}/tuning.db"
    (name,) = optuna.get_all_study_names(storage)
    found: list[Any] = optuna.load_study(study_name=name, storage=storage).trials
    return found
