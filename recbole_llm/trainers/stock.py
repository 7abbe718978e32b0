"""RecBole's trainers with the engine before them, and which of them a model has.

``Trainer`` is the one to extend, or another of these where RecBole has one for such models.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from recbole.config import Config
from recbole.data.dataloader import AbstractDataLoader
from recbole.model.abstract_recommender import AbstractRecommender
from recbole.trainer import trainer as recbole_trainers
from recbole.utils import get_trainer as get_recbole_trainer

from recbole_llm.core import model_traits
from recbole_llm.core.checkpoints.starts import PRETRAINING
from recbole_llm.core.plugins.loading import get_model
from recbole_llm.core.plugins.registry import ModelSpec, resolve
from recbole_llm.core.plugins.specs import spec_by_name
from recbole_llm.trainers.engine import EngineMixin
from recbole_llm.trainers.phased import PhasedTrainer
from recbole_llm.trainers.replicas import ReplicaTrainer
from recbole_llm.trainers.resume_point import part_file
from recbole_llm.trainers.trainer import Trainer


class KGTrainer(Trainer, recbole_trainers.KGTrainer, ReplicaTrainer):  # type: ignore[misc]
    """Alternates between interactions and the knowledge graph."""


class KGATTrainer(Trainer, recbole_trainers.KGATTrainer, ReplicaTrainer):  # type: ignore[misc]
    """KGAT's."""


class MKRTrainer(Trainer, recbole_trainers.MKRTrainer, ReplicaTrainer):  # type: ignore[misc]
    """MKR's."""


class TraditionalTrainer(Trainer, recbole_trainers.TraditionalTrainer):  # type: ignore[misc]
    """One epoch, for models that count."""


class RecVAETrainer(Trainer, recbole_trainers.RecVAETrainer, ReplicaTrainer):  # type: ignore[misc]
    """RecVAE's."""

    def __init__(self, config: Config, model: AbstractRecommender) -> None:
        super().__init__(config, model)
        self.optimizer = self.optimizer_decoder  # whose state is saved after an epoch


class NCLTrainer(Trainer, recbole_trainers.NCLTrainer):  # type: ignore[misc]
    """NCL's.

    Raises:
        ValueError: more clusters than users or items.
    """

    def __init__(self, config: Config, model: AbstractRecommender) -> None:
        super().__init__(config, model)
        fewest = min(model.n_users, model.n_items)
        if config["num_clusters"] > fewest:
            raise ValueError(
                f"num_clusters: {config['num_clusters']} clusters of {fewest - 1} users or items; "
                f"set --num_clusters={max(1, fewest // 10)}"
            )

    def keep_last_file(self) -> None:
        """Keep nothing: its clusters are made between epochs, out of reach."""


class PretrainTrainer(Trainer, recbole_trainers.PretrainTrainer):  # type: ignore[misc]
    """Base of the trainers with pretraining stages, whose last epoch is the run's checkpoint.

    RecBole keeps only every ``save_step``-th epoch, and names it by model, data set and number, so
    that another stage, seed or setting overwrites it.
    """

    def __init__(self, config: Config, model: AbstractRecommender) -> None:
        super().__init__(config, model)
        self.next_train_stage = PRETRAINING.get(model.train_stage)
        if self.next_train_stage is not None:
            self.collects_data, self.epochs = True, self.pretrain_epochs
            self.kept_every: int = config["save_step"]
            self.save_step = self.pretrain_epochs + 1  # RecBole saves none

    def _train_epoch(
        self, train_data: AbstractDataLoader, epoch_idx: int, *args: Any, **kwargs: Any
    ) -> Any:
        loss = super()._train_epoch(train_data, epoch_idx, *args, **kwargs)
        done = epoch_idx + 1
        if self.next_train_stage is None:
            return loss
        if done == self.pretrain_epochs:
            self._save_checkpoint(epoch_idx)
        elif done % self.kept_every == 0:
            file = part_file(self.saved_model_file, str(done))
            self._save_checkpoint(epoch_idx, saved_model_file=file)
        return loss


class S3RecTrainer(PretrainTrainer, recbole_trainers.S3RecTrainer):  # type: ignore[misc]
    """S3Rec's."""


class RaCTTrainer(PretrainTrainer, recbole_trainers.RaCTTrainer):  # type: ignore[misc]
    """RaCT's."""


class DecisionTreeTrainer(EngineMixin, recbole_trainers.DecisionTreeTrainer):  # type: ignore[misc]
    """Base of the trainers of decision trees, whose libraries write them to a file of their own
    (text or JSON, no pickle), which checkpoints hold."""

    collects_data = True
    temp_file: str
    temp_best_file: str

    def __init__(self, config: Config, model: AbstractRecommender) -> None:
        super().__init__(config, model)
        # XGBoost knows a format by the suffix; RecBole's is .pth.
        names = (self.temp_file, self.temp_best_file)
        self.temp_file, self.temp_best_file = (str(Path(n).with_suffix(".json")) for n in names)

    def _checkpoint(self, epoch: int) -> dict[str, Any]:
        trees = bytearray(Path(self.temp_best_file).read_bytes())
        state = torch.frombuffer(trees, dtype=torch.uint8)
        return {**super()._checkpoint(epoch), "state_dict": state, "other_parameter": None}


class XGBoostTrainer(DecisionTreeTrainer, recbole_trainers.XGBoostTrainer):  # type: ignore[misc]
    """XGBoost's."""


class LightGBMTrainer(DecisionTreeTrainer, recbole_trainers.LightGBMTrainer):  # type: ignore[misc]
    """LightGBM's."""


def get_trainer(name: str) -> type[EngineMixin]:
    """The trainer class of a registered or stock model, with which ``run`` trains it too.

    Raises:
        ValueError: unknown model, or a plugin's trainer that is RecBole's and not one of these, or
            leaves out what these do around an epoch.
    """
    return trainer_of(get_model(name), spec_by_name(name))


def trainer_of(model: type[Any], spec: ModelSpec) -> type[EngineMixin]:
    """The trainer class of a model's class, which need not be registered; raises as above."""
    own = spec.trainer
    if own is None:  # RecBole's choice, as the class of its name here
        own = globals()[get_recbole_trainer(model.type, spec.stock_name).__name__]
    trainer: type[EngineMixin] = resolve(own, f"trainer of model '{spec.name}'")
    if not (isinstance(trainer, type) and issubclass(trainer, EngineMixin)):
        called = getattr(trainer, "__name__", repr(trainer))
        raise ValueError(
            f"trainer '{called}' of model '{spec.name}' lacks this "
            f"package's evaluation and checkpoints; let it extend Trainer (or KGTrainer, …) of "
            f"{__name__} in place of recbole.trainer's"
        )
    if model_traits.is_phased(model) and not issubclass(trainer, PhasedTrainer):
        raise ValueError(
            f"trainer '{trainer.__name__}' of model '{spec.name}' trains no phases, which the "
            f"model has; let it extend {PhasedTrainer.__module__}:{PhasedTrainer.__name__}"
        )
    if not trainer._train_epoch.__module__.startswith("recbole_llm."):
        raise ValueError(
            f"trainer '{trainer.__name__}' of model '{spec.name}' overrides _train_epoch, which "
            f"resuming and reports depend on; name its method train_batches (docs/plugins.md)"
        )
    return trainer
