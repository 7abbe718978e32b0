"""A data set of a zero-shot run, and the checks before the training."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from itertools import combinations
from logging import getLogger
from typing import Any

from recbole.utils import init_seed
from torch import nn

from recbole_llm.core.config import Config
from recbole_llm.core.errors import first_names
from recbole_llm.core.files import expanded
from recbole_llm.core.lines import plural, shows_epoch_bars
from recbole_llm.steps import build_model, build_trainer, load_data


class Task:
    """A data set with its loaders, its model and the trainer that evaluates it."""

    def __init__(self, config: Config) -> None:
        self.config = config
        # The split is that of any run with this seed, whatever was trained before.
        init_seed(config["seed"], config["reproducibility"])
        self.dataset, self.train, self.valid, self.test = load_data(config)
        self.model = build_model(config, self.train.dataset)
        self.trainer = build_trainer(config, self.model)
        self.trainer.record_data_state(self.train)
        self.trainer.eval_collector.data_collect(self.train)

    @property
    def name(self) -> str:
        """The data set's name."""
        return str(self.config["dataset"])

    @property
    def items(self) -> Sequence[str]:
        """The items' ids."""
        return self.dataset.field2id_token[self.dataset.iid_field][1:]

    def evaluate(self, split: str, model: nn.Module | None = None) -> dict[str, float]:
        """Metrics on ``valid`` or ``test``, of the task's model or another one."""
        trainer = self.trainer
        bars = shows_epoch_bars(self.config)
        groups = nullcontext() if split == "test" else trainer.eval_collector.without_groups()
        trainer.model = self.model if model is None else model
        try:
            with groups:
                result = trainer.evaluate(
                    getattr(self, split), load_best_model=False, show_progress=bars
                )
        finally:
            trainer.model = self.model
        return {name: float(value) for name, value in result.items()}

    def close(self) -> None:
        """End the thread of the trainer's TensorBoard writer."""
        self.trainer.tensorboard.close()

    def loader(self, batch_size: int) -> Any:
        """The training loader with another batch size."""
        config = self.config.with_values(train_batch_size=batch_size)
        return type(self.train)(
            config, self.train.dataset, self.train._sampler, shuffle=config["shuffle"]
        )


def check_tasks(seen: Sequence[Task], unseen: Task, part: str) -> None:
    """Refuse a model with weights that do not transfer, splits without a part that is needed, and
    text vectors that differ in width; warn about a file of vectors that several data sets share."""
    _check_weights(unseen.model, part)
    _check_parts(seen, unseen)
    _check_widths([*seen, unseen], part)
    _warn_of_shared_vectors([*seen, unseen])


def _check_weights(model: nn.Module, part: str) -> None:
    """Refuse a part that does not exist, and weights outside of it: on the unseen data set, they
    would be as random as before training."""
    shared, name = getattr(model, part, None), type(model).__name__
    if not isinstance(shared, nn.Module):
        raise ValueError(f"model: 'transferable' of {name} names '{part}', which is no submodule")
    inside = {id(weight) for weight in shared.parameters()}
    trained = ((n, weight) for n, weight in model.named_parameters() if weight.requires_grad)
    outside = [n for n, weight in trained if id(weight) not in inside]
    if outside:
        raise ValueError(
            f"model: {name} has weights outside its 'transferable' part '{part}': "
            f"{first_names(outside)}; on an unseen data set, they would not be trained"
        )


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
    """Warn if data sets share a file of vectors: items with the same id get the same vector."""
    name = tasks[0].config["embedding_path"]
    if tasks[0].config["encoder"] != "precomputed" or not expanded(str(name)).is_file():
        return  # each data set has a file of that name in its own folder
    for one, other in combinations(tasks, 2):
        shared = sorted(set(one.items) & set(other.items))
        if shared:
            getLogger("recbole_llm").warning(
                f"embedding_path: '{name}' serves all data sets, and {plural(len(shared), 'id')} "
                f"of '{one.name}' and '{other.name}' are the same ({first_names(shared)}): unless "
                f"these are the same items, give each data set a file of its own in its folder"
            )
