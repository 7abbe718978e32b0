"""Train on some data sets, recommend on another one that the model has never seen."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, closing
from logging import getLogger
from typing import Any

import numpy as np
from recbole.data.dataset import Dataset

from recbole_llm.core import model_traits
from recbole_llm.core.checks import key_marks
from recbole_llm.core.config import Config
from recbole_llm.core.files import OTHER_FILE, check_file, write_json
from recbole_llm.core.lines import aligned
from recbole_llm.core.log import close_log, log_ends_with_errors, show
from recbole_llm.core.marks import Mark
from recbole_llm.core.plugins.specs import spec_of
from recbole_llm.core.runtime import one_thread
from recbole_llm.core.schema import given_settings, parse_command_line
from recbole_llm.data.create import check_files
from recbole_llm.data.rows.sizes import data_line
from recbole_llm.evaluation.protocol import describe_protocol, describe_repeats
from recbole_llm.evaluation.references import make_references
from recbole_llm.report import (
    changed_settings,
    list_outputs,
    say_pairs,
    suggest_next_step,
    versions,
)
from recbole_llm.steps import progress_shown, start
from recbole_llm.tasks.zero_shot.datasets import Task, check_tasks
from recbole_llm.trainers.mixed import MixedLoader, MixedModel, MixedTrainer
from recbole_llm.trainers.progress import duration
from recbole_llm.trainers.stock import trainer_of
from recbole_llm.trainers.trainer import Trainer

DEFAULT_MODEL = "AlphaRec"


@one_thread()
@log_ends_with_errors()
def zero_shot(
    train: Sequence[str],
    test: str,
    config_file_list: Sequence[str] | None = None,
    config_dict: Mapping[str, Any] | None = None,
    argv: Sequence[str] = (),
    saved: bool = True,
) -> dict[str, Any]:
    """Train a model's transferable part on some data sets and test it on another.

    On the unseen data set the model gets the items' texts and the training interactions
    (histories and graph), and no training.

    Args:
        train: data set names; with several, every batch has rows of all of them, in proportion
            to their sizes, and the best epoch has the best mean of their validation scores.
        test: name of the unseen data set.
        config_file_list, config_dict, argv: as `run_recbole_llm` takes them, for all data sets;
            `model` is AlphaRec unless they say otherwise.
        saved: whether to write a checkpoint: the trained part on the unseen data set.

    Returns:
        best_valid_score, best_valid_result ({data set: result}), valid_score_bigger; of the
        unseen data set test_result and references ({name: result}: random, popularity, text
        similarity); when saved, checkpoint.

    Raises:
        ValueError: no data set to train on, the unseen one among them, a model that does not
            transfer, a split without a part that is needed, or data sets whose text vectors
            differ in width.
    """
    began = time.perf_counter()
    train = [train] if isinstance(train, str) else train
    configs = _make_configs(train, test, config_file_list, given_settings(config_dict), argv)
    part = transferable_part(configs[0])
    start(configs[0], trains=True)
    with ExitStack() as opened:
        # The unseen data set is loaded first: its errors would waste the training.
        unseen, *seen = [
            opened.enter_context(closing(Task(own))) for own in (configs[-1], *configs[:-1])
        ]
        result = _train_and_test(seen, unseen, part, saved)
        _log_result(unseen.config, unseen.train.dataset, result, time.perf_counter() - began)
    close_log()
    return result


def _train_and_test(seen: Sequence[Task], unseen: Task, part: str, saved: bool) -> dict[str, Any]:
    check_tasks(seen, unseen, part)
    _log_start([task.dataset for task in seen], unseen.dataset, unseen.config, part)
    score, best = _train_shared_part(seen, part)
    getattr(unseen.model, part).load_state_dict(getattr(seen[0].model, part).state_dict())
    unseen.model.eval()
    if saved:
        unseen.trainer._save_checkpoint(-1)
    others = make_references(unseen.config, unseen.train.dataset)
    result = {
        "best_valid_score": score,
        "best_valid_result": best,
        "valid_score_bigger": unseen.config["valid_metric_bigger"],
        "test_result": unseen.evaluate("test"),
        "references": {name: unseen.evaluate("test", model) for name, model in others.items()},
    }
    return {**result, "checkpoint": unseen.trainer.saved_model_file} if saved else result


def transferable_part(config: Config) -> str:
    """Name of the submodule that fits any data set: the model class's attribute `transferable`.

    Raises:
        ValueError: the model has none, or a trainer of its own, which would not be used.
    """
    name = model_traits.transferable_part(config.model_class)
    if name is None:
        raise ValueError(
            f"model: {config['model']} has no part that fits an unseen data set (a class attribute "
            f"'transferable' that names a submodule); use {DEFAULT_MODEL}"
        )
    own = trainer_of(config.model_class, spec_of(config))
    if own is not Trainer:
        raise ValueError(
            f"model: {config['model']} is trained by {own.__name__}, whose phases or steps "
            f"zero-shot would leave out; use a model without a trainer of its own"
        )
    return name


def _train_shared_part(tasks: Sequence[Task], part: str) -> tuple[float, dict[str, Any]]:
    """Train the shared part; the models end in their best state."""
    config = tasks[0].config
    mixed = MixedModel([task.model for task in tasks], part)
    getLogger().info(mixed)
    trainer = MixedTrainer(config, mixed)
    sizes = np.array([len(task.train.dataset) for task in tasks])
    shares = np.maximum(1, np.round(config["train_batch_size"] * sizes / sizes.sum()))
    loader = MixedLoader([t.loader(int(share)) for t, share in zip(tasks, shares, strict=True)])
    with progress_shown(config, trainer) as bars:
        score, best = trainer.fit(loader, tasks, saved=False, show_progress=bars)
    if trainer.best_state is not None:
        mixed.load_state_dict(trainer.best_state)
    return score, best


def _make_configs(
    train: Sequence[str],
    test: str,
    files: Sequence[str] | None,
    parameters: dict[str, Any],
    argv: Sequence[str],
) -> list[Config]:
    if not train:
        raise ValueError("train: name at least one data set to train on")
    if test in train:
        raise ValueError(f"test: '{test}' is among the data sets to train on, so it is not unseen")
    twice = [name for name in train if list(train).count(name) > 1]
    if twice:
        raise ValueError(f"train: '{twice[0]}' is named twice")
    given = parse_command_line(argv)
    if "dataset" in given or "dataset" in parameters:
        raise ValueError("dataset: name the data sets with train and test")
    configs = [
        Config(None, name, files, parameters, argv, DEFAULT_MODEL) for name in (*train, test)
    ]
    _check_same_encoder(configs)
    if configs[0]["resume"] is not None:
        raise ValueError("resume: zero-shot runs cannot be resumed")
    if configs[0]["output"] is not None:
        check_file(configs[0]["output"], OTHER_FILE)
    for config in configs:
        check_files(config)
    return configs


def _check_same_encoder(configs: Sequence[Config]) -> None:
    """Refuse different encoders, as data sets' own files may set them: a shared part fits only one
    encoder."""
    first, marks = configs[0], key_marks()
    named = {key for c in configs for key in c.final_config_dict if key.startswith("encoder")}
    keys = sorted(
        {"item_feature", *(key for key in named if not marks[key] & Mark.NO_EFFECT_ON_RESULTS)}
    )
    for config in configs[1:]:
        differing = [key for key in keys if config[key] != first[key]]
        if differing:
            key = differing[0]
            raise ValueError(
                f"{key}: {first[key]!r} for data set '{first['dataset']}', but "
                f"{config[key]!r} for '{config['dataset']}'; the same encoder must make both"
            )


def _log_start(trained: Sequence[Dataset], unseen: Dataset, config: Config, part: str) -> None:
    """Log the data sets, and the model's part that is trained."""
    say_pairs(
        [
            *(("train", data_line(dataset)) for dataset in trained),
            ("unseen", data_line(unseen)),
            ("repeats", describe_repeats(config, unseen)),
            ("model", f"{config['model']}, whose {part} is trained, then used unchanged"),
        ]
    )


def _log_result(config: Config, unseen: Dataset, result: Mapping[str, Any], seconds: float) -> None:
    """Log a table of the model and the references, write the result, and log where the files are.

    Args:
        config: the unseen data set's.
        result: what `zero_shot` returns.
    """
    rows = {"zero-shot": result["test_result"], **result["references"]}
    names = [name for name in result["test_result"] if not name.endswith(")")]  # no groups
    cells = [[name, *(f"{metrics[n]:.4f}" for n in names)] for name, metrics in rows.items()]
    title = f"{config['model']} on {config['dataset']}: {describe_protocol(config, unseen)}"
    show("\n".join(["", title, *aligned([["", *names], *cells])]))
    places = [("took", duration(seconds))]
    if (output := config["output"]) is not None:
        content = {**result, "settings": changed_settings(config), "versions": versions()}
        write_json(output, {"dataset": config["dataset"], **content}, OTHER_FILE)
        places.append(("result", output))
    say_pairs([*places, *list_outputs(result), *suggest_next_step(unseen, result)])
