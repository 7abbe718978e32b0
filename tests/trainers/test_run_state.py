"""The state of a training beyond RecBole's checkpoints."""

from __future__ import annotations

import random
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from recbole_llm.core.checkpoints.checkpoint import load_checkpoint, write_checkpoint
from recbole_llm.trainers import run_state


def draw_from_all(loaders: list[Any]) -> list[float]:
    of_loaders = [torch.rand((), generator=loader.generator).item() for loader in loaders]
    gauss = [random.gauss(0, 1), np.random.standard_normal()]  # each stores a second number
    return [*of_loaders, *gauss, random.random(), np.random.random(), torch.rand(()).item()]


def test_every_source_of_random_numbers_is_restored(tmp_path: Path) -> None:
    def loader(seed: int) -> Any:
        return SimpleNamespace(generator=torch.Generator().manual_seed(seed))

    parts = SimpleNamespace(general_dataloader=loader(1), kg_dataloader=loader(2))
    loaders = [parts, None, loader(3)]
    flat = [parts.general_dataloader, parts.kg_dataloader, loaders[2]]
    draw_from_all(flat)
    write_checkpoint(
        {"config": {}, "random": run_state.random_state(loaders)}, tmp_path / "state.pth"
    )
    expected = [draw_from_all(flat), draw_from_all(flat)]
    run_state.set_random_state(load_checkpoint(tmp_path / "state.pth")["random"], loaders)
    assert [draw_from_all(flat), draw_from_all(flat)] == expected


class Counting(nn.Module):
    other_parameter_name = ("kept",)

    def __init__(self) -> None:
        super().__init__()
        self.update, self.rate, self.kept = 0, 0.5, 1
        self.adjacency = torch.eye(2).to_sparse()
        self.order, self.names = np.arange(4), np.array(["a"])
        self.heat, self.wide, self.on = 1, np.zeros(2, np.longdouble), True
        self._cache = torch.zeros(2)
        self.inner = nn.Linear(2, 2)
        self.inner.register_buffer("bank", torch.zeros(3), persistent=False)
        self.inner.register_buffer("constant", torch.ones(3), persistent=False)


def test_changes_beyond_the_state_dict_are_found_and_restored(tmp_path: Path) -> None:
    model, fresh = Counting(), Counting()
    before = run_state.mark_states(model)
    assert run_state.find_changes(model, before) == []
    model.update += 3
    model.kept, model._cache = 2, torch.ones(2)  # in other_parameter; rebuilt when needed
    model.adjacency = (2 * torch.eye(2)).to_sparse()
    model.order[:2], model.names[0] = [1, 0], "b"
    model.graph = torch.eye(2)  # made in training
    model.heat, model.on = np.float64(0.5), False
    model.wide[0] = 1
    model.inner.bank[1] = 7
    changes = run_state.find_changes(model, before)
    expected = [("", "update"), ("", "adjacency"), ("", "order"), ("", "heat"), ("inner", "bank")]
    assert [change[:2] for change in changes] == expected
    write_checkpoint({"config": {}, "changes": changes}, tmp_path / "state.pth")
    run_state.restore_changes(fresh, load_checkpoint(tmp_path / "state.pth")["changes"])
    assert fresh.update == 3 and fresh.adjacency.to_dense()[0, 0] == 2
    assert fresh.heat == 0.5
    assert isinstance(fresh.order, np.ndarray) and fresh.order.tolist() == [1, 0, 2, 3]
    assert fresh.inner.bank.tolist() == [0, 7, 0] and "bank" in fresh.inner._buffers
    with pytest.raises(ValueError, match="resume: the model has no 'inner.weird' of this kind"):
        run_state.restore_changes(fresh, [("inner", "weird", 1)])
