"""The checkpoint of an earlier stage or phase, from which a model starts."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from recbole_llm.core.checkpoints.checkpoint import STOPPED, load_checkpoint
from recbole_llm.core.checkpoints.tokens import check_numbers, vocabulary_of
from recbole_llm.core.errors import missing_file_error
from recbole_llm.core.model_traits import start_key
from recbole_llm.core.settings import ConfigLike

if TYPE_CHECKING:
    from recbole.data.dataset import Dataset

# {key of the file: (key of the stage, values of it that start from the file)}
START_FILES = {
    "pre_model_path": ("train_stage", ("critic_pretrain", "finetune")),
    "warm_up": ("phase", ("distillation", "finetuning")),
}
# {train_stage that trains for pretrain_epochs without validation: the stage after it}
PRETRAINING = {
    "pretrain": "finetune", "actor_pretrain": "critic_pretrain", "critic_pretrain": "finetune",
}  # fmt: skip


def check_start_file(config: ConfigLike) -> None:
    """Refuse a stage whose start file is missing, of another model, or of a stopped run."""
    for key, stage in _start_keys(config):
        file = str(config[key] or "")
        if not file:
            raise ValueError(
                f"{key}: {stage}={config[stage]} starts from a checkpoint of the previous stage; "
                f"name it with --{key}=…"
            )
        if not Path(file).is_file():
            raise missing_file_error(key, file, "*.pth")
        checkpoint = load_checkpoint(file)
        stored = checkpoint["config"]
        names = [c.__name__ for c in getattr(config, "model_class", object).__mro__]
        if stored.get("model") not in [*names, config["model"]]:
            raise ValueError(
                f"{key}: '{file}' is of {stored.get('model')}; name a checkpoint of "
                f"{config['model']} from the previous stage"
            )
        # Loading a model of this stage builds it from its own file, even if its run was stopped.
        if STOPPED in checkpoint and stored.get(stage) != config[stage]:
            raise ValueError(
                f"{key}: '{file}' is of a stopped run, which --resume={file} continues"
            )


def check_start_numbers(config: ConfigLike, dataset: Dataset) -> None:
    """Refuse a start file that has other users or items, or the same ones in another order: the
    rows of its tables are taken over unchanged."""
    keys = [key for key, _ in _start_keys(config)]
    phase_key = start_key(getattr(config, "model_class", object))
    if phase_key is not None and config[phase_key] is not None:
        keys.append(phase_key)
    for key in keys:
        stored = load_checkpoint(config[key]).get("tokens")
        try:
            check_numbers(vocabulary_of(dataset), stored)
        except ValueError as error:
            raise ValueError(f"{key}: '{config[key]}': {error}") from None


def _start_keys(config: ConfigLike) -> Iterator[tuple[str, str]]:
    """Yield the keys of the file and of the stage, for each stage that starts from a file."""
    for key, (stage, stages) in START_FILES.items():
        if stage in config and config[stage] in stages:
            yield key, stage
