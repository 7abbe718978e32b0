"""What every trainer of this package adds to RecBole's; see `trainer` and `stock`."""

from __future__ import annotations

from math import isfinite, isnan, nan
from pathlib import Path
from typing import Any

import torch
from recbole.config import Config
from recbole.data.dataloader import AbstractDataLoader
from recbole.evaluator.collector import Collector
from recbole.model.abstract_recommender import AbstractRecommender
from recbole.trainer.trainer import AbstractTrainer
from recbole.utils import EvaluatorType, ModelType, early_stopping, set_color

from recbole_llm.core import model_traits
from recbole_llm.core.checkpoints.checkpoint import write_checkpoint
from recbole_llm.core.checkpoints.stored import keys_required_for_vectors, plain_config
from recbole_llm.core.checkpoints.tokens import pack, vocabulary_of
from recbole_llm.core.like_defaults import suspects_named
from recbole_llm.core.log import run_name
from recbole_llm.core.plugins.loading import get_plugin_manager
from recbole_llm.core.processes import distributed, randomness
from recbole_llm.data.rows.training import training_digest
from recbole_llm.evaluation.group_metrics import EvaluatorByGroup, GroupEvaluator
from recbole_llm.evaluation.pointwise import PointwiseCollector, PointwiseEvaluator
from recbole_llm.evaluation.ranking import RankingCollector
from recbole_llm.features.tables.checkpointed import feature_state
from recbole_llm.trainers.errors import (
    key_at_fault_named,
    loss_error,
    short_table_named,
    training_memory_named,
)
from recbole_llm.trainers.progress import Progress
from recbole_llm.trainers.replicas import align_statistics


class EngineMixin(AbstractTrainer):  # type: ignore[misc]
    """Mixin with evaluation within a memory budget, fair to ties and by group; training without
    autograd's debug mode; checkpoints of plain data, written whole; a hook for improvements.

    List it before a RecBole trainer among the bases.
    """

    saved_model_file: str
    optimizer: torch.optim.Optimizer
    best_valid_score: float
    valid_metric_bigger: bool
    start_epoch, epochs, stopping_step, eval_step, cur_step = 0, 1, 0, 1, 0
    next_train_stage: str | None = None  # set in a pretraining, which does not validate
    collects_data = False  # whether metrics' training data is collected here, not in RecBole's fit
    phase_name = ""  # of the training that runs, if there are several
    _epoch, _step = 0, 0  # of the training that runs, counted from 1
    last_file: str | None = None  # keeps the state before each epoch; None: it is not kept

    def __init__(self, config: Config, model: AbstractRecommender) -> None:
        super().__init__(config, model)
        self._data_state: dict[str, Any] = {}
        self.eval_collector, self.evaluator = evaluation_parts(config)
        self.progress = Progress(config["valid_metric"])
        # RecBole names checkpoints by the second, so runs started together would share a file. A
        # run's first trainer takes the name of its log (RecBole's own configurations have none);
        # another trainer must not write over its files.
        name = distributed.broadcast(getattr(config, "log_name", None) or run_name(config))
        config.log_name = None
        self.saved_model_file = str(Path(self.saved_model_file).with_name(f"{name}.pth"))

    def fit(self, train_data: AbstractDataLoader, *args: Any, **kwargs: Any) -> Any:
        """Let the model prepare for training, and train as the base class does.

        Raises:
            ValueError: the data differs from that of the run to resume.
        """
        self._prepare_training(train_data)
        return self._run_training(train_data, *args, **kwargs)

    def _prepare_training(self, train_data: AbstractDataLoader) -> None:
        self.record_data_state(train_data)
        model_traits.prepare_training(self.model, train_data)
        if self.config["MODEL_TYPE"] != ModelType.TRADITIONAL:  # these all count the same rows
            randomness.seed_process(self.config["seed"])

    def _run_training(self, train_data: AbstractDataLoader, *args: Any, **kwargs: Any) -> Any:
        """Run the base class's training; ``detect_anomaly`` is off unless the user asks for it."""
        if self.collects_data:
            self.eval_collector.data_collect(train_data)
        validated = self.start_epoch and isfinite(self.best_valid_score)
        best = (self.start_epoch, self.best_valid_score) if validated else (0, nan)
        progress = self.progress.training(
            name=self.phase_name,
            first_epoch=self.start_epoch,
            limit=self.epochs,
            patience=self.stopping_step,
            best=best,
        )
        anomaly = torch.autograd.set_detect_anomaly(bool(self.config["detect_anomaly"]))
        table = short_table_named(self.model, train_data.dataset)
        with progress, anomaly, table, suspects_named(self.config):
            return super().fit(train_data, *args, **kwargs)

    def _train_epoch(
        self, train_data: AbstractDataLoader, epoch_idx: int, *args: Any, **kwargs: Any
    ) -> Any:
        progress = self.progress.epoch(epoch_idx, len(train_data), self.optimizer)
        self._epoch, self._step = epoch_idx + 1, 0
        with progress, key_at_fault_named(self.config), training_memory_named(self.config):
            loss = self.train_batches(train_data, epoch_idx, *args, **kwargs)
        align_statistics(self.model)
        return distributed.mean_over_processes(loss)

    def train_batches(
        self, train_data: AbstractDataLoader, epoch_idx: int, *args: Any, **kwargs: Any
    ) -> Any:
        """Train an epoch, and return the sum of its losses. A trainer with its own loop over
        batches overrides this method; its arguments are those of RecBole's ``_train_epoch``."""
        return super()._train_epoch(train_data, epoch_idx, *args, **kwargs)

    def _check_nan(self, loss: torch.Tensor) -> None:
        """Refuse a loss that is no finite number; loops over batches call this once per batch."""
        self._step += 1
        value = loss.item()  # waits for the device once, as RecBole's own check does
        if not isfinite(value):
            raise loss_error(self.config, value, self.phase_name, self._epoch, self._step)

    def record_data_state(self, train_data: AbstractDataLoader) -> None:
        """Store what checkpoints say of the data: names of ids, and what features were made of."""
        dataset = train_data.dataset
        self._data_state = {
            "tokens": pack(vocabulary_of(dataset)),
            "features": feature_state(dataset),
            "trained_on": training_digest(dataset),
            "needs": keys_required_for_vectors(self.config),
        }

    def keep_last_file(self) -> None:
        """Keep a file from which a stopped run can be resumed; does nothing here."""

    def resume_run(self, file: str) -> None:
        """Resume a stopped run.

        Raises:
            ValueError: runs of this trainer cannot be resumed.
        """
        raise ValueError(f"resume: runs of {self.config['model']} cannot be resumed")

    def on_improvement(self) -> None:
        """Called when the validation score is at least as good as the best of this training, before
        the model's present weights are saved; does nothing here."""

    def _valid_epoch(self, *args: Any, **kwargs: Any) -> tuple[float, Any]:
        """Score and result on the validation data; ValueError if the first score is NaN."""
        with self.progress.validation():
            score, result = self._validate(*args, **kwargs)
        if isnan(score) and not isfinite(self.best_valid_score):
            raise ValueError(
                f"valid_metric: {self.config['valid_metric']} has no value on validation, so no "
                f"epoch is the best; give validation both labels (threshold, or eval_args: split), "
                f"sample negatives (eval_args: mode uni100), or choose another valid_metric"
            )
        # RecBole's own rule, which its fit applies to the same score right after this.
        *_, improved = early_stopping(
            score, self.best_valid_score, 0, 0, bigger=self.valid_metric_bigger
        )
        self.progress.validated(score, improved)
        get_plugin_manager().hook.on_validation(
            config=self.config, score=float(score), number=self.progress.validations
        )
        if improved:
            self.on_improvement()
        return score, result

    def _validate(self, *args: Any, **kwargs: Any) -> tuple[float, Any]:
        """Score and result on the validation data."""
        with self.eval_collector.without_groups():
            return super()._valid_epoch(*args, **kwargs)

    def _save_checkpoint(
        self, epoch: int, verbose: bool = True, saved_model_file: str | None = None
    ) -> None:
        if not distributed.is_main():
            return
        file = saved_model_file or self.saved_model_file
        write_checkpoint(self._checkpoint(epoch), file)
        if verbose:
            self.logger.info(set_color("Saving current", "blue") + f": {file}")

    def _checkpoint(self, epoch: int) -> dict[str, Any]:
        """Content of a checkpoint after an epoch, under RecBole's names."""
        return {
            **self._data_state,
            "config": plain_config(self.config),
            "epoch": epoch,
            "cur_step": self.cur_step,
            "best_valid_score": self.best_valid_score,
        }


def evaluation_parts(config: Config) -> tuple[Collector, EvaluatorByGroup]:
    """The collector and the evaluator for labels or for rankings, as ``eval_type`` says."""
    if config["eval_type"] == EvaluatorType.VALUE:
        return PointwiseCollector(config), PointwiseEvaluator(config)
    return RankingCollector(config), GroupEvaluator(config)
