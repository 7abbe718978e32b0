"""Train on some data sets, recommend on another one that the model has never seen."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, closing, nullcontext
from itertools import combinations
from logging import getLogger
from typing import Any

import numpy as np
from recbole.utils import init_seed
from torch import nn

from recbole_llm.core.checks import key_marks
from recbole_llm.core.config import Config
from recbole_llm.core.errors import first_names
from recbole_llm.core.files import OTHER_FILE, check_file, expanded
from recbole_llm.core.lines import counted
from recbole_llm.core.log import close_log
from recbole_llm.core.marks import Mark
from recbole_llm.core.schema import parse_command_line
from recbole_llm.data.create import check_files
from recbole_llm.evaluation.group_metrics import without_groups
from recbole_llm.evaluation.references import references
from recbole_llm.steps import build_model, build_trainer, load_data, start
from recbole_llm.tasks.zero_shot_report import say_begin, say_end
from recbole_llm.trainers.mixed import MixedLoader, MixedModel, MixedTrainer

DEFAULT_MODEL = "AlphaRec"


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
    configs = _configs(train, test, config_file_list, dict(config_dict or {}), argv)
    part = transferable_part(configs[0])
    start(configs[0], trains=True)
    # The unseen one comes before the training, which its errors would waste.
    with ExitStack() as tasks:
        unseen, *seen = [
            tasks.enter_context(closing(Task(config))) for config in (configs[-1], *configs[:-1])
        ]
        _check_parts(seen, unseen)
        _check_widths([*seen, unseen], part)
        _warn_of_shared_vectors([*seen, unseen])
        say_begin([task.dataset for task in seen], unseen.dataset, unseen.config, part)
        score, best = _train(seen, part)
        getattr(unseen.model, part).load_state_dict(getattr(seen[0].model, part).state_dict())
        unseen.model.eval()
        if saved:
            unseen.trainer._save_checkpoint(-1)
        others = references(unseen.config, unseen.train.dataset)
        result = {
            "best_valid_score": score,
            "best_valid_result": best,
            "valid_score_bigger": configs[0]["valid_metric_bigger"],
            "test_result": unseen.evaluate("test"),
            "references": {name: unseen.evaluate("test", model) for name, model in others.items()},
        }
    if saved:
        result["checkpoint"] = unseen.trainer.saved_model_file
    say_end(unseen.config, unseen.train.dataset, result, time.perf_counter() - began)
    close_log()
    return result


def transferable_part(config: Config) -> str:
    """Name of the submodule that fits any data set: the model class's attribute `transferable`.

    Raises:
        ValueError: the model has none.
    """
    name: str | None = getattr(config.model_class, "transferable", None)
    if name is None:
        raise ValueError(
            f"model: {config['model']} has no part that fits an unseen data set (a class attribute "
            f"'transferable' that names a submodule); use {DEFAULT_MODEL}"
        )
    return name


class Task:
    """A data set with its loaders, its model and the trainer that evaluates it."""

    def __init__(self, config: Config) -> None:
        self.config = config
        # The split is that of any run with this seed, whatever was trained before.
        init_seed(config["seed"], config["reproducibility"])
        self.dataset, self.train, self.valid, self.test = load_data(config)
        self.model = build_model(config, self.train.dataset)
        self.trainer = build_trainer(config, self.model)
        self.trainer.keep_names(self.train)
        self.trainer.eval_collector.data_collect(self.train)

    @property
    def name(self) -> str:
        """Of the data set."""
        return str(self.config["dataset"])

    @property
    def items(self) -> Sequence[str]:
        """Their ids."""
        return self.dataset.field2id_token[self.dataset.iid_field][1:]

    def evaluate(self, split: str, model: nn.Module | None = None) -> dict[str, float]:
        """Metrics on ``valid`` or ``test``, of the task's model or another one."""
        self.trainer.model = self.model if model is None else model
        progress = self.config["show_progress"] and self.config["verbose"]
        groups = nullcontext() if split == "test" else without_groups(self.trainer.eval_collector)
        try:
            with groups:
                result = self.trainer.evaluate(
                    getattr(self, split), load_best_model=False, show_progress=progress
                )
        finally:
            self.trainer.model = self.model
        return {name: float(value) for name, value in result.items()}

    def close(self) -> None:
        """End the thread of the trainer's writer."""
        self.trainer.tensorboard.close()

    def loader(self, batch_size: int) -> Any:
        """The training loader with another batch size."""
        config = self.config.having(train_batch_size=batch_size)
        return type(self.train)(
            config, self.train._dataset, self.train._sampler, shuffle=config["shuffle"]
        )


def _train(tasks: Sequence[Task], part: str) -> tuple[float, dict[str, Any]]:
    """Train the shared part; the models end in their best state."""
    config = tasks[0].config
    mixed = MixedModel([task.model for task in tasks], part)
    getLogger().info(mixed)
    trainer = MixedTrainer(config, mixed)
    sizes = np.array([len(task.train._dataset) for task in tasks])
    shares = np.maximum(1, np.round(config["train_batch_size"] * sizes / sizes.sum()))
    loader = MixedLoader([t.loader(int(share)) for t, share in zip(tasks, shares, strict=True)])
    bars = config["show_progress"] and config["verbose"]  # RecBole's
    trainer.progress.shown = config["show_progress"] and not bars
    with closing(trainer.tensorboard):
        score, best = trainer.fit(loader, tasks, saved=False, show_progress=bars)
    if trainer.best_state is not None:
        mixed.load_state_dict(trainer.best_state)
    return score, best


def _check_parts(tasks: Sequence[Task], unseen: Task) -> None:
    for task, part in [*((task, "valid") for task in tasks), (unseen, "test")]:
        if not len(getattr(task, part)):
            raise ValueError(
                f"eval_args: the split of data set '{task.name}' leaves nothing for {part}; "
                f"zero-shot needs it"
            )


def _check_widths(tasks: Sequence[Task], part: str) -> None:
    first = {k: tuple(v.shape) for k, v in getattr(tasks[0].model, part).state_dict().items()}
    for task in tasks[1:]:
        own = {k: tuple(v.shape) for k, v in getattr(task.model, part).state_dict().items()}
        if own != first:
            raise ValueError(
                f"data sets '{tasks[0].name}' and '{task.name}' give '{part}' other shapes "
                f"({first} and {own}): use the same encoder for both"
            )


def _warn_of_shared_vectors(tasks: Sequence[Task]) -> None:
    """A file of vectors that serves several data sets gives one vector to items of one id."""
    name = tasks[0].config["embedding_path"]
    if tasks[0].config["encoder"] != "precomputed" or not expanded(str(name)).is_file():
        return  # each data set has a file of that name in its own folder
    for one, other in combinations(tasks, 2):
        shared = sorted(set(one.items) & set(other.items))
        if shared:
            getLogger("recbole_llm").warning(
                f"embedding_path: '{name}' serves all data sets, and {counted(len(shared), 'id')} "
                f"of '{one.name}' and '{other.name}' are the same ({first_names(shared)}): unless "
                f"these are the same items, give each data set a file of its own in its folder"
            )


def _configs(
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
    _check_encoders(configs)
    if configs[0]["resume"] is not None:
        raise ValueError("resume: zero-shot runs cannot be resumed")
    if configs[0]["output"] is not None:
        check_file(configs[0]["output"], OTHER_FILE)
    for config in configs:
        check_files(config)
    return configs


def _check_encoders(configs: Sequence[Config]) -> None:
    """Data sets' own files may set encoders; a map between other text spaces is meaningless."""
    first, marks = configs[0], key_marks()
    named = {key for c in configs for key in c.final_config_dict if key.startswith("encoder")}
    keys = sorted({"item_feature", *(key for key in named if not marks[key] & Mark.FREE)})
    for config in configs[1:]:
        other = [key for key in keys if config[key] != first[key]]
        if other:
            raise ValueError(
                f"{other[0]}: {first[other[0]]!r} for data set '{first['dataset']}', but "
                f"{config[other[0]]!r} for '{config['dataset']}'; the same encoder must make both"
            )
