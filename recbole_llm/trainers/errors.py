"""Errors of a training, worded so that they name the cause and the way out."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from traceback import walk_tb

from recbole.config import Config
from recbole.data.dataset import Dataset
from torch import nn

from recbole_llm.core.errors import one_line
from recbole_llm.core.memory import memory_needed_by
from recbole_llm.core.processes import distributed

_PRECISION = re.compile("BFloat16|Half|dtype")  # in torch's errors about operands


def loss_error(config: Config, loss: float, phase: str, epoch: int, step: int) -> ValueError:
    """The error for a training loss that is NaN or infinite; `phase` is "" if there is only one."""
    if (epoch, step) == (1, 1):  # no learning rate was used
        way_out = (
            "no step has changed the weights yet, so look at calculate_loss (log of 0, division "
            "by 0), its inputs and the model's settings"
        )
    else:
        of_phase = f"{phase}_learning_rate"
        key = of_phase if phase and config[of_phase] is not None else "learning_rate"
        way_out = f"lower {key} ({config[key]})"
    amp = ", or set enable_amp=False" if config["enable_amp"] else ""
    where = f"{f'phase {phase}, ' if phase else ''}epoch {epoch}, step {step}"
    return ValueError(
        f"the training loss of {config['model']} is {loss} in {where}: {way_out}{amp}"
    )


@contextmanager
def key_at_fault_named(config: Config) -> Iterator[None]:
    """Turn two of torch's errors into errors that name the key at fault: ``enable_amp`` if a
    model's operations fail in mixed precision, ``train_batch_size`` if batch normalization gets a
    batch of one row.

    Raises:
        ValueError: one of these errors, which some of RecBole's models cause.
    """
    size = distributed.world_size()
    try:
        yield
    except ValueError as error:
        if "more than 1 value per channel" not in str(error):
            raise
        part = f", of which each of {size} processes takes a part" if size > 1 else ""
        raise ValueError(
            f"train_batch_size: a batch of {config['train_batch_size']}, or the last one{part}, "
            f"has a single row, which the batch normalization of {config['model']} cannot take; "
            f"set another size"
        ) from error
    except RuntimeError as error:
        if not config["enable_amp"] or not _PRECISION.search(str(error)):
            raise
        raise ValueError(
            f"enable_amp: {config['model']} does not train in mixed precision "
            f"({one_line(error)}); leave it out"
        ) from error


def training_memory_named(config: Config) -> AbstractContextManager[None]:
    """Name the way out if a training step runs out of memory; see `memory_needed_by`."""
    size = config["train_batch_size"]
    way_out = f"lower train_batch_size (now {size}), or make the model smaller"
    return memory_needed_by(f"a training step of {config['model']}", way_out)


def evaluation_memory_named(config: Config) -> AbstractContextManager[None]:
    """Name the way out if an evaluation step runs out of memory; see `memory_needed_by`."""
    way_out = "lower eval_memory_mib or eval_batch_size"
    return memory_needed_by(f"an evaluation step of {config['model']}", way_out)


@contextmanager
def short_table_named(model: nn.Module, dataset: Dataset) -> Iterator[None]:
    """Turn torch's error about an id that an embedding table has no row for into an error that
    names the table and says which ids there are. On GPUs, torch raises another error, after the
    look-up, which does not lead to the table.

    Raises:
        ValueError: a table has too few rows.
    """
    try:
        yield
    except IndexError as error:
        frames = [frame for frame, _ in walk_tb(error.__traceback__)]
        looked_up = [f.f_locals for f in frames if f.f_code is nn.Embedding.forward.__code__]
        if not looked_up:
            raise
        table, ids = looked_up[-1]["self"], looked_up[-1]["input"]
        name = next((f" '{name}'" for name, part in model.named_modules() if part is table), "")
        raise ValueError(
            f"{type(model).__name__}: its nn.Embedding{name} has {table.num_embeddings} rows, so "
            f"it takes ids below that, and got {ids.min()} to {ids.max()}; items have the ids 0 to "
            f"{dataset.item_num - 1} and users 0 to {dataset.user_num - 1}, where 0 is the "
            f"padding: a table of items needs dataset.item_num rows, one of users dataset.user_num"
        ) from error
