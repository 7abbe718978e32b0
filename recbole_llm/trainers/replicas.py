"""A model in several processes: each takes its part of a batch, all take the same step."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch
from recbole.utils import ModelType
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from recbole_llm.core import distributed
from recbole_llm.data.sequence_loader import target_count

if TYPE_CHECKING:
    from recbole.config import Config
    from recbole.data.interaction import Interaction

    Loss = Tensor | tuple[Tensor, ...]

_LOSSES = ("calculate_loss", "calculate_rs_loss", "calculate_kg_loss")  # that trainers call


class _Caller(nn.Module):
    """Gives DDP, which hooks a module's ``forward``, any of the model's losses to run."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, loss: Callable[..., Loss], *args: Any, **kwargs: Any) -> Loss:
        return loss(*args, **kwargs)


@contextmanager
def replicated(model: nn.Module, config: Config) -> Iterator[None]:
    """Within it the gradients of a model's losses are those of all processes' rows.

    A loss counts by the targets it is the mean of, so that the mean over processes is that over
    the rows of the whole batch. Models that count (Pop) see all rows in every process.
    """
    if distributed.world_size() == 1 or config["MODEL_TYPE"] == ModelType.TRADITIONAL:
        yield
        return
    ddp = _reducing(model, config["device"])
    names = [name for name in _LOSSES if hasattr(model, name)]
    for name in names:
        setattr(model, name, _shared(ddp, getattr(model, name), config))
    try:
        yield
    finally:
        for name in names:
            delattr(model, name)


def _reducing(model: nn.Module, device: torch.device) -> nn.Module:
    group = distributed.gradient_group(device)
    if device.type == "cuda":
        nn.SyncBatchNorm.convert_sync_batchnorm(model, group)  # type: ignore[no-untyped-call]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # its next name copies the buffers once
        return DistributedDataParallel(
            _Caller(model),
            process_group=group,
            # Item vectors of any size, which no step changes; see `align_statistics` for others.
            broadcast_buffers=False,
            find_unused_parameters=True,  # a phase, a pretraining, a loss trains a part
        )


def _shared(ddp: nn.Module, loss: Callable[..., Loss], config: Config) -> Callable[..., Loss]:
    def calculate(interaction: Interaction, *args: Any, **kwargs: Any) -> Loss:
        weight = _weight(interaction, config)
        found = ddp(loss, interaction, *args, **kwargs)
        return tuple(x * weight for x in found) if isinstance(found, tuple) else found * weight

    return calculate


def _weight(interaction: Interaction, config: Config) -> float:
    """Targets of this process's part, in parts of the processes' mean."""
    own = target_count(interaction, config)
    total = torch.tensor(own)
    torch.distributed.all_reduce(total)
    return own * distributed.world_size() / int(total)


def align_statistics(model: nn.Module) -> None:
    """Give all processes the first's running statistics (batch normalisation's)."""
    if distributed.world_size() > 1:
        state = model.state_dict()
        own = {name: state[name].cpu() for name, _ in model.named_buffers() if name in state}
        for name, value in distributed.from_main(own).items():
            state[name].copy_(value)
