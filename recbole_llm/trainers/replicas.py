"""A model in several processes: each takes its part of a batch, all take the same step."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import recbole.trainer
import torch
from recbole.config import Config
from recbole.data.dataloader import AbstractDataLoader
from recbole.data.interaction import Interaction
from recbole.utils import ModelType
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from recbole_llm.core.errors import one_line
from recbole_llm.core.processes import distributed
from recbole_llm.data.loading.sequence_loader import target_count

Loss = Tensor | tuple[Tensor, ...]


class ReplicaTrainer(recbole.trainer.Trainer):  # type: ignore[misc]
    """RecBole's trainer; if several processes train, its losses cover the rows of all of them.

    RecBole's loop over batches takes the loss as an argument. Among the bases, this class thus
    comes before a trainer with its own loop (NCL's), and after a trainer that calls the loop with
    losses of its choice (KG's, MKR's, RecVAE's); for other trainers the order does not matter.
    """

    _replicas: nn.Module | None = None  # the model in DDP, which keeps the processes' copies equal

    def fit(self, *args: Any, **kwargs: Any) -> Any:
        """Train; arguments and result as RecBole's."""
        # Models that count (Pop) see all rows in every process.
        if distributed.world_size() > 1 and self.config["MODEL_TYPE"] != ModelType.TRADITIONAL:
            self._replicas = _wrap_in_ddp(self.model, self.config["device"])
        try:
            return super().fit(*args, **kwargs)
        finally:
            self._replicas = None  # this also removes its hooks on the parameters

    def _train_epoch(
        self,
        train_data: AbstractDataLoader,
        epoch_idx: int,
        loss_func: Callable[..., Loss] | None = None,
        show_progress: bool = False,
    ) -> Any:
        loss = self.shared(loss_func or self.model.calculate_loss)
        return super()._train_epoch(train_data, epoch_idx, loss, show_progress)

    def shared(self, loss: Callable[..., Loss]) -> Callable[..., Loss]:
        """Wrap one of the model's losses for a loop over batches within `fit`, so that its
        gradients cover the rows of all processes.

        It is weighted by its number of targets, so that the mean over processes equals the mean
        over the whole batch. It raises ValueError if the model returns no loss.
        """
        replicas, loss = self._replicas, _add_checks(loss, type(self.model).__name__)
        if replicas is None:
            return loss

        def calculate(interaction: Interaction) -> Loss:
            weight = _row_weight(interaction, self.config)
            value = replicas(loss, interaction)
            return tuple(x * weight for x in value) if isinstance(value, tuple) else value * weight

        return calculate


def _add_checks(loss: Callable[..., Loss], model: str) -> Callable[..., Loss]:
    """Wrap a loss to raise ValueError if it returns anything but numbers with gradients."""

    def calculate(interaction: Interaction) -> Loss:
        value = loss(interaction)
        parts = value if isinstance(value, tuple) else (value,)
        if not (parts and all(isinstance(part, Tensor) and part.numel() == 1 for part in parts)):
            fault = f"returned {one_line(repr(value), 60)}"
        elif not any(part.requires_grad for part in parts):
            fault = "returned a loss without gradients"
        else:
            return value
        raise ValueError(
            f"calculate_loss of {model} {fault}; it is to return a tensor of one number, or a "
            f"tuple of such tensors, with gradients"
        )

    return calculate


class _Caller(nn.Module):
    """A module that runs any of the model's losses in ``forward``, which DDP hooks."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, loss: Callable[..., Loss], interaction: Interaction) -> Loss:
        return loss(interaction)


def _wrap_in_ddp(model: nn.Module, device: torch.device) -> nn.Module:
    group = distributed.gradient_group(device)
    if device.type == "cuda":
        nn.SyncBatchNorm.convert_sync_batchnorm(model, group)  # type: ignore[no-untyped-call]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # the new argument copies buffers once
        return DistributedDataParallel(
            _Caller(model),
            process_group=group,
            # Buffers can be large item vectors, which no step changes; for others see
            # `align_statistics`.
            broadcast_buffers=False,
            find_unused_parameters=True,  # a phase, a pretraining or a loss may train a part
        )


def _row_weight(interaction: Interaction, config: Config) -> float:
    """Number of targets in this process's part of the batch, relative to the processes' mean."""
    own = target_count(interaction, config)
    total = torch.tensor(own)
    torch.distributed.all_reduce(total)
    return own * distributed.world_size() / int(total)


def align_statistics(model: nn.Module) -> None:
    """Give all processes the running statistics (of batch normalization) of the first."""
    if distributed.world_size() > 1:
        state = model.state_dict()
        own = {name: state[name].cpu() for name, _ in model.named_buffers() if name in state}
        for name, value in distributed.broadcast(own).items():
            state[name].copy_(value)
