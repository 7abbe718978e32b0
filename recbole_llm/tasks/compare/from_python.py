"""Comparisons and searches from Python, which print the commands' lines and return results."""

from __future__ import annotations

import json
from collections.abc import Generator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import click

from recbole_llm.core.schema import parse_values
from recbole_llm.core.yaml_files import files_given, read_yaml
from recbole_llm.tasks.compare import run
from recbole_llm.tasks.compare.executors import RunOptions
from recbole_llm.tasks.compare.keys import code_digest

T = TypeVar("T")


def compare(
    models: str | Sequence[str],
    dataset: str | None = None,
    config_file_list: Sequence[str] | None = None,
    config_dict: Mapping[str, Any] | None = None,
    argv: Sequence[str] = (),
    seeds: int | str | Sequence[int] = 3,
    jobs: int = 1,
    baseline: str | None = None,
    tune: int | None = None,
    output: str = "comparison",
    executor: str = "local",
    ray_address: str | None = None,
) -> dict[str, Any]:
    """Compare models over several seeds, each run in a process of its own.

    Args:
        models: ``"SASRec; name: SASRec --item_init=llm"``, or a list of such texts.
        dataset, config_file_list, config_dict, argv: as in `run_recbole_llm`, for all models.
        seeds: how many; or a list of them.
        jobs, baseline, tune, output, executor, ray_address: as the command's options.

    Returns:
        what ``result.json`` in the folder `output` holds.

    Raises:
        ValueError: in one line: what the command refuses; or, after the tables, runs that failed.
    """
    options = RunOptions(output, jobs, executor, ray_address)
    texts = [models] if isinstance(models, (str, type)) else models
    named = str(seeds) if isinstance(seeds, (int, str)) else f"{','.join(map(str, seeds))},"
    _show(
        run.compare(
            "; ".join(map(_check_name, texts)),
            options,
            seeds=named,
            baseline=baseline,
            tune=tune,
            config_file_list=_files(config_file_list),
            argv=_arguments(dataset, config_dict, argv),
        )
    )
    result: dict[str, Any] = json.loads((Path(output) / "result.json").read_text("utf-8"))
    return result


def tune(
    model: str,
    dataset: str | None = None,
    config_file_list: Sequence[str] | None = None,
    config_dict: Mapping[str, Any] | None = None,
    argv: Sequence[str] = (),
    *,
    trials: int,
    jobs: int = 1,
    search: str | None = None,
    output: str = "tuning",
    executor: str = "local",
    ray_address: str | None = None,
) -> dict[str, Any]:
    """Search for a model's settings on validation, each trial in a process of its own.

    Args:
        model: its name, with arguments of its own if any.
        dataset, config_file_list, config_dict, argv: as `run_recbole_llm` takes them; keys that
            are set are not searched.
        trials, jobs, search, output, executor, ray_address: as the command's options.

    Returns:
        best_params, best_valid_score, and file: the best settings as YAML.

    Raises:
        ValueError: in one line: what the command refuses, or no trial that ended well.
    """
    from recbole_llm.tasks.compare import tuning  # which needs Optuna

    best, file = _show(
        tuning.tune(
            _check_name(model),
            trials,
            RunOptions(output, jobs, executor, ray_address),
            search=search,
            config_file_list=_files(config_file_list),
            argv=_arguments(dataset, config_dict, argv),
        )
    )
    return {"best_params": read_yaml(file), "best_valid_score": best.score, "file": str(file)}


def _show(lines: Generator[str, None, T]) -> T:
    """Print lines as they come; returns what their generator returns."""
    code_digest.cache_clear()  # files may have changed since this process looked last
    while True:
        try:
            click.echo(next(lines))
        except StopIteration as end:
            result: T = end.value
            return result


def _check_name(model: object) -> str:
    if not isinstance(model, str):
        raise ValueError(  # noqa: TRY004
            f"models: {model!r} is no name, and runs are processes of their own: register the "
            f"class in a file, and give that as config_dict={{'plugins': ['mine.py']}}"
        )
    return model


def _files(given: Sequence[str] | None) -> list[str]:
    return [str(file) for file in files_given(given)]


def _arguments(
    dataset: str | None, config_dict: Mapping[str, Any] | None, argv: Sequence[str]
) -> list[str]:
    """Settings as command-line arguments for the runs."""
    if config_dict is not None and not isinstance(config_dict, Mapping):
        raise ValueError(f"config_dict: expected a dict of settings, got {config_dict!r}")
    given = {**(config_dict or {}), **({} if dataset is None else {"dataset": dataset})}
    plain = parse_values(given, given)  # texts stay as they are written
    return [*(f"--{key}={value}" for key, value in plain.items()), *argv]
