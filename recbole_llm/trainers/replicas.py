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
    """RecBole's trainer; where several processes train, its losses are those of all their rows.

    RecBole's loop over batches takes the loss as an argument. So this class comes before a trainer
    with a loop of its own (NCL's), and after one that calls the loop with losses of its choice
    (KG's, MKR's, RecVAE's); beside any other trainer either place will do.
    """

    _replicas: nn.Module | None = None  # the processes' copies of the model, which DDP keeps alike

    def fit(self, *args: Any, **kwargs: Any) -> Any:
        """Train; arguments and result as RecBole's."""
        # Models that count (Pop) see all rows in every process.
        if distributed.world_size() > 1 and self.config["MODEL_TYPE"] != ModelType.TRADITIONAL:
            self._replicas = _wrap_in_ddp(self.model, self.config["device"])
        try:
            return super().fit(*args, **kwargs)
        finally:
            self._replicas = None  # and with it its hooks on the parameters

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
        """The loss that a loop over batches calls for one of the model's, within `fit`: its
        gradients are those of all processes' rows.

        It counts by the targets it is the mean of, so that the mean over processes is that over
        the rows of the whole batch. It raises ValueError where the model returns no loss.
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
    """The loss, or ValueError where it gives something else than numbers with gradients."""

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
    """Gives DDP, which hooks a module's ``forward``, any of the model's losses to run."""

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
        warnings.simplefilter("ignore", FutureWarning)  # its next name copies the buffers once
        return DistributedDataParallel(
            _Caller(model),
            process_group=group,
            # Item vectors of any size, which no step changes; see `align_statistics` for others.
            broadcast_buffers=False,
            find_unused_parameters=True,  # a phase, a pretraining, a loss trains a part
        )


def _row_weight(interaction: Interaction, config: Config) -> float:
    """Targets of this process's part, in parts of the processes' mean."""
    own = target_count(interaction, config)
    total = torch.tensor(own)
    torch.distributed.all_reduce(total)
    return own * distributed.world_size() / int(total)


def align_statistics(model: nn.Module) -> None:
    """Give all processes the first's running statistics (batch normalization's)."""
    if distributed.world_size() > 1:
        state = model.state_dict()
        own = {name: state[name].cpu() for name, _ in model.named_buffers() if name in state}
        for name, value in distributed.broadcast(own).items():
            state[name].copy_(value)
