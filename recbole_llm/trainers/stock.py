"""RecBole's trainers with the engine before them, and the choice of a model's trainer.

Extend ``Trainer``, or another class of this module if RecBole has its own trainer for such models.
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
from recbole_llm.core.plugins.specs import spec_by_name, spec_of_class
from recbole_llm.trainers.engine import EngineMixin
from recbole_llm.trainers.phased import PhasedTrainer
from recbole_llm.trainers.replicas import ReplicaTrainer
from recbole_llm.trainers.resume_point import part_file
from recbole_llm.trainers.trainer import Trainer


class KGTrainer(Trainer, recbole_trainers.KGTrainer, ReplicaTrainer):  # type: ignore[misc]
    """Alternates between interactions and the knowledge graph."""


class KGATTrainer(Trainer, recbole_trainers.KGATTrainer, ReplicaTrainer):  # type: ignore[misc]
    """The trainer of KGAT."""


class MKRTrainer(Trainer, recbole_trainers.MKRTrainer, ReplicaTrainer):  # type: ignore[misc]
    """The trainer of MKR."""


class TraditionalTrainer(Trainer, recbole_trainers.TraditionalTrainer):  # type: ignore[misc]
    """One epoch, for models that train by counting."""


class RecVAETrainer(Trainer, recbole_trainers.RecVAETrainer, ReplicaTrainer):  # type: ignore[misc]
    """The trainer of RecVAE."""

    def __init__(self, config: Config, model: AbstractRecommender) -> None:
        super().__init__(config, model)
        self.optimizer = self.optimizer_decoder  # checkpoints save its state


class NCLTrainer(Trainer, recbole_trainers.NCLTrainer):  # type: ignore[misc]
    """The trainer of NCL.

    Raises:
        ValueError: more clusters than users or items.
    """

    def __init__(self, config: Config, model: AbstractRecommender) -> None:
        super().__init__(config, model)
        fewest = min(model.n_users, model.n_items)
        if config["num_clusters"] > fewest:
            raise ValueError(
                f"num_clusters: {config['num_clusters']} clusters are more than the {fewest - 1} "
                f"users or items; set --num_clusters={max(1, fewest // 10)}"
            )

    def keep_last_file(self) -> None:
        """Keep nothing: runs cannot be resumed, since NCL makes its clusters between epochs."""


class PretrainTrainer(Trainer, recbole_trainers.PretrainTrainer):  # type: ignore[misc]
    """Base of the trainers with pretraining stages, whose last epoch becomes the run's checkpoint.

    RecBole saves only every ``save_step``-th epoch, and names its file by model, data set and
    epoch, so that a run of another stage, seed or setting overwrites it.
    """

    def __init__(self, config: Config, model: AbstractRecommender) -> None:
        super().__init__(config, model)
        self.next_train_stage = PRETRAINING.get(model.train_stage)
        if self.next_train_stage is not None:
            self.collects_data, self.epochs = True, self.pretrain_epochs
            self.kept_every: int = config["save_step"]
            self.save_step = self.pretrain_epochs + 1  # so RecBole saves none

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
    """The trainer of S3Rec."""


class RaCTTrainer(PretrainTrainer, recbole_trainers.RaCTTrainer):  # type: ignore[misc]
    """The trainer of RaCT."""


class DecisionTreeTrainer(EngineMixin, recbole_trainers.DecisionTreeTrainer):  # type: ignore[misc]
    """Base of the trainers of decision trees. Checkpoints hold the content of the file to which
    the libraries write the trees (text or JSON, no pickle)."""

    collects_data = True
    temp_file: str
    temp_best_file: str

    def __init__(self, config: Config, model: AbstractRecommender) -> None:
        super().__init__(config, model)
        # XGBoost chooses a format by the suffix; RecBole's is .pth.
        names = (self.temp_file, self.temp_best_file)
        self.temp_file, self.temp_best_file = (str(Path(n).with_suffix(".json")) for n in names)

    def _checkpoint(self, epoch: int) -> dict[str, Any]:
        trees = bytearray(Path(self.temp_best_file).read_bytes())
        state = torch.frombuffer(trees, dtype=torch.uint8)
        return {**super()._checkpoint(epoch), "state_dict": state, "other_parameter": None}


class XGBoostTrainer(DecisionTreeTrainer, recbole_trainers.XGBoostTrainer):  # type: ignore[misc]
    """The trainer of XGBoost."""


class LightGBMTrainer(DecisionTreeTrainer, recbole_trainers.LightGBMTrainer):  # type: ignore[misc]
    """The trainer of LightGBM."""


def get_trainer(model: str | type) -> type[EngineMixin]:
    """The trainer class of a model, with which ``run`` trains it too.

    Args:
        model: name of a registered or stock model, or a class, which need not be registered.

    Raises:
        ValueError: the model is unknown, or a plugin's trainer does not extend one of these
            classes, or replaces what they do around an epoch.
    """
    if isinstance(model, type):
        return trainer_of(model, spec_of_class(model))
    return trainer_of(get_model(model), spec_by_name(model))


def trainer_of(model: type[Any], spec: ModelSpec) -> type[EngineMixin]:
    """The trainer class for a model class, which need not be registered; raises as above."""
    own = spec.trainer
    if own is None:  # RecBole's choice: the class of the same name here
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
            f"trainer '{trainer.__name__}' of model '{spec.name}' trains no phases, but the model "
            f"has them; let it extend {PhasedTrainer.__module__}:{PhasedTrainer.__name__}"
        )
    if issubclass(trainer, PhasedTrainer) and not model_traits.is_phased(model):
        raise ValueError(
            f"trainer '{trainer.__name__}' of model '{spec.name}' trains phases, but the model has "
            f"none; let the model extend recbole_llm.models.phased:PhasedRecommender"
        )
    if not trainer._train_epoch.__module__.startswith("recbole_llm."):
        raise ValueError(
            f"trainer '{trainer.__name__}' of model '{spec.name}' overrides _train_epoch, which "
            f"resuming and reports depend on; name its method train_batches (docs/plugins.md)"
        )
    return trainer
