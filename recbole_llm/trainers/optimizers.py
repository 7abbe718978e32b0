"""Adam in one fused step, and SparseAdam for item tables too large for a dense gradient."""

from __future__ import annotations

from typing import Any

import torch
from recbole.config import Config
from torch import Tensor, nn
from torch.optim import Optimizer, SparseAdam

from recbole_llm.core.errors import named_error
from recbole_llm.core.processes import distributed

_FUSED = (torch.optim.Adam, torch.optim.AdamW)


def fuse(optimizer: Optimizer) -> None:
    """Let Adam and AdamW update all parameters in one step, where torch can."""
    # RecBole passes no `fused`, and torch's default loops over parameters and operations.
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    fits = all(p.is_floating_point() and p.device.type in ("cpu", "cuda") for p in parameters)
    if type(optimizer) in _FUSED and fits:
        for group in optimizer.param_groups:
            group.update(fused=True, foreach=False)


def restore(optimizer: Optimizer, state: dict[str, Any], file: object) -> None:
    """Load an optimizer's state from a checkpoint file.

    Raises:
        ValueError: the state is incomplete, or of parameters of other shapes.
    """
    try:
        optimizer.load_state_dict(state)
        parts = optimizer.parts.values() if isinstance(optimizer, TableAndRest) else [optimizer]
        for part in parts:
            _check_moments(part)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise ValueError(
            f"resume: '{file}' holds an optimizer's state that does not fit this model "
            f"({named_error(error)}); start anew"
        ) from error


def _check_moments(optimizer: Optimizer) -> None:
    """Refuse moments of another shape: a fused step, which does not compare shapes, would read
    beyond their memory."""
    if type(optimizer) not in (*_FUSED, SparseAdam):
        return
    for parameter, state in optimizer.state.items():
        for name in ("exp_avg", "exp_avg_sq"):
            there, here = tuple(state[name].shape), tuple(parameter.shape)
            if there != here:
                raise ValueError(f"{name} {there} of a parameter {here}")


class TableAndRest(Optimizer):
    """Updates a table by SparseAdam, in the rows that a step read, and other parameters by `rest`.

    Adam updates all n rows in each step, and holds n gradients. Torch's SparseAdam updates only the
    rows that the step read, and the moments of a row only then, so the two do not train alike.
    """

    def __init__(self, rest: Optimizer, table: Tensor, learning_rate: float) -> None:
        self.parts = {"rest": rest, "table": SparseAdam([table], lr=learning_rate)}
        groups = [
            {"params": group["params"]} for o in self.parts.values() for group in o.param_groups
        ]
        super().__init__(groups, {})

    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        """Update all parameters."""
        for part in self.parts.values():
            part.step()

    def state_dict(self) -> dict[str, Any]:
        """States of both optimizers, by name."""
        return {name: part.state_dict() for name, part in self.parts.items()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """The inverse of `state_dict`."""
        for name, part in self.parts.items():
            part.load_state_dict(state_dict[name])


def sparse_table(model: nn.Module, config: Config) -> nn.Embedding | None:
    """The model's item table, set to give sparse gradients; None unless ``item_table: sparse``.

    Raises:
        ValueError: the model has no such table, or several GPUs would have to sum its gradients.
    """
    if config["item_table"] != "sparse":
        return None
    if distributed.world_size() > 1 and config["device"].type == "cuda":
        raise ValueError(
            "item_table: NCCL cannot sum the sparse gradients of several GPUs; leave it "
            "dense, or train in one process"
        )
    table = getattr(model, "item_embedding", None)
    if not isinstance(table, nn.Embedding):
        raise ValueError(f"item_table: {config['model']} has no sparse item table; leave it dense")
    table.sparse = True
    return table
