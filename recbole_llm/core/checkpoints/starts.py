"""The checkpoint of an earlier stage or phase, from which a model starts."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from recbole_llm.core.checkpoints.checkpoint import load_checkpoint
from recbole_llm.core.checkpoints.tokens import check_numbers, vocabulary_of
from recbole_llm.core.errors import absent
from recbole_llm.core.marks import STARTS, STOPPED
from recbole_llm.core.settings import ConfigLike

if TYPE_CHECKING:
    from recbole.data.dataset import Dataset


def check_start_file(config: ConfigLike) -> None:
    """Refuse a stage whose file is not there, is of another model, or is of a stopped run."""
    for key, stage in _started(config):
        file = str(config[key] or "")
        if not file:
            raise ValueError(
                f"{key}: {stage}={config[stage]} starts from a checkpoint of the stage before; "
                f"name it with --{key}=…"
            )
        if not Path(file).is_file():
            raise absent(key, file, "*.pth")
        checkpoint = load_checkpoint(file)
        then = checkpoint["config"]
        names = [c.__name__ for c in getattr(config, "model_class", object).__mro__]
        if then.get("model") not in [*names, config["model"]]:
            raise ValueError(
                f"{key}: '{file}' is of {then.get('model')}; name a checkpoint of "
                f"{config['model']}, of the stage before"
            )
        # A model of this stage that is loaded is built from its own file, wherever its run stood.
        if STOPPED in checkpoint and then.get(stage) != config[stage]:
            raise ValueError(
                f"{key}: '{file}' is of a stopped run, which --resume={file} goes on with"
            )


def check_start_numbers(config: ConfigLike, dataset: Dataset) -> None:
    """Refuse a file whose tables have other users or items, or the same ones in another order:
    their rows are taken as they stand."""
    own = getattr(getattr(config, "model_class", object), "start_key", None)  # of phases
    keys = [key for key, _ in _started(config)]
    for key in keys if own is None or config[own] is None else [*keys, own]:
        stored = load_checkpoint(config[key]).get("tokens")
        try:
            check_numbers(vocabulary_of(dataset), stored)
        except ValueError as error:
            raise ValueError(f"{key}: '{config[key]}': {error}") from None


def _started(config: ConfigLike) -> Iterator[tuple[str, str]]:
    """The key of the file and that of the stage, where the stage starts from a file."""
    for key, (stage, later) in STARTS.items():
        if stage in config and config[stage] in later:
            yield key, stage
