"""A small model in two phases, and a data set for it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from recbole.data import create_dataset, data_preparation
from torch import Tensor, nn

from recbole_llm.core.config import Config
from recbole_llm.models.base import SequenceRecommender
from recbole_llm.testing import write_tiny_dataset
from recbole_llm.trainers.phased import Phase, PhasedTrainer


class TwoTables(SequenceRecommender):
    """A model that scores by the last item. Each phase has a table of its own, and the second
    phase's begins as a copy of the first's."""

    other_parameter_name = ("phase",)

    def __init__(self, config: Any, dataset: Any) -> None:
        super().__init__(config, dataset)
        self.tables = nn.ModuleDict(
            {name: nn.Embedding(self.n_items, 8) for name in ("first", "second")}
        )
        self.phase = "second"
        self.begun: list[str] = []

    def begin_phase(self, name: str) -> None:
        self.begun.append(name)
        self.phase = name
        if name == "second":
            self.tables["second"].load_state_dict(self.tables["first"].state_dict())

    def phase_summaries(self) -> dict[str, str]:
        return {}  # the tests give them to the phases

    def phase_parameters(self) -> Iterator[nn.Parameter]:
        return self.tables[self.phase].parameters()

    def user_states(self, item_seq: Tensor, mask: Tensor) -> Tensor:
        return self.item_vectors(item_seq)

    def item_vectors(self, ids: Tensor | None = None) -> Tensor:
        table = self.tables[self.phase]
        return table.weight if ids is None else table(ids)


class Stage:
    """A run's configuration and loaders; ``trainer()`` gives a new trainer with a new model."""

    def __init__(self, folder: Any, **changes: Any) -> None:
        write_tiny_dataset(folder, "tiny")
        settings = {
            "data_path": str(folder),
            "checkpoint_dir": str(folder / "saved"),
            "loss_type": "CE",
            "epochs": 3,
            "stopping_step": 5,
            "learning_rate": 0.05,
            "metrics": ["NDCG"],
            "valid_metric": "NDCG@10",
            "train_batch_size": 512,
            "show_progress": False,
            **changes,
        }
        self.config = Config(TwoTables, "tiny", config_dict=settings)
        self.train, self.valid, self.test = data_preparation(
            self.config, create_dataset(self.config)
        )

    def trainer(self, *phases: Phase, seed: int = 0) -> Any:
        torch.manual_seed(seed)
        model = TwoTables(self.config, self.train.dataset)
        both = (Phase("first", 3, 0.05, 5, "one"), Phase("second", 2, 0.01, 5, "two"))
        trainer = PhasedTrainer(self.config, model)
        trainer.phases = list(phases or both)
        return trainer


@pytest.fixture
def stage(tmp_path: Any) -> Callable[..., Stage]:
    """``stage(**config)``: a data set, and trainers of a two-phase model for it."""
    return lambda **changes: Stage(tmp_path, **changes)
