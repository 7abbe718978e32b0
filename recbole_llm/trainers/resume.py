"""Resuming: a stopped run ends as if it had not been stopped.

The state is kept in a separate file beside the run's checkpoint, ``saved/PAD-…-last.pth``,
which is written before each epoch and removed when the run ends without an error.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from recbole.data.dataloader import AbstractDataLoader
from recbole.data.dataset import Dataset
from recbole.utils import set_color

from recbole_llm.core.checkpoints.checkpoint import STOPPED, load_model_state, write_checkpoint
from recbole_llm.core.checkpoints.plain import decode
from recbole_llm.core.checkpoints.tokens import check_numbers, vocabulary_of
from recbole_llm.core.log import show
from recbole_llm.core.plugins.loading import get_registry
from recbole_llm.core.plugins.registry import FeatureSpec
from recbole_llm.core.processes import distributed, torchrun
from recbole_llm.evaluation.beyond import run_reads
from recbole_llm.features.attach import features_of
from recbole_llm.trainers import run_state
from recbole_llm.trainers.engine import EngineMixin
from recbole_llm.trainers.optimizers import restore
from recbole_llm.trainers.resume_point import (
    ResumePoint,
    atomic_digests,
    file_beside,
    load_run,
    other_data_error,
    part_file,
)


@contextmanager
def resumable(trainer: EngineMixin, wanted: bool = True) -> Iterator[None]:
    """Keep a file to resume the run from, until the block ends without an error."""
    if wanted:
        trainer.keep_last_file()
    try:
        with torchrun.lost_processes_named():
            yield
    except (KeyboardInterrupt, torchrun.LostProcess) as error:
        if trainer.last_file is None or not Path(trainer.last_file).is_file():
            raise
        way_on = f"the same command with --resume={trainer.last_file} goes on"
        raise type(error)("; ".join(filter(None, (str(error), way_on)))) from None
    if trainer.last_file is not None and distributed.is_main():
        Path(trainer.last_file).unlink(missing_ok=True)


class ResumableMixin(EngineMixin):
    """Training that can be resumed after a stop."""

    run_file: str  # the run's own checkpoint, beside which last_file is kept
    best_valid_result: dict[str, Any] | None
    train_loss_dict: dict[int, float]
    resume_point = ResumePoint()  # once training has resumed from it, holds only its ids
    _train_dataset: Dataset

    def keep_last_file(self) -> None:
        """Keep a file from which a stopped run can be resumed."""
        if self.last_file is None:
            self.run_file = self.saved_model_file
            self.last_file = part_file(self.run_file, "last")
            self.logger.info(
                set_color("If this run is stopped", "blue")
                + f", the same command with --resume={self.last_file} goes on"
            )

    def record_data_state(self, train_data: AbstractDataLoader) -> None:
        """Store what checkpoints say of the data, which must be unchanged in a resumed run.

        Raises:
            ValueError: ids are not those of the checkpoint, or the data has changed.
        """
        point = self.resume_point
        check_numbers(vocabulary_of(train_data.dataset), point.tokens)
        super().record_data_state(train_data)
        self._train_dataset = train_data.dataset
        if point.state is None:
            return
        # Compare files too, since times, labels, fields and held-out rows also matter.
        now = self._data_state.get("trained_on"), self._file_digests
        if (point.trained_on, point.state["files"]) != now:
            raise other_data_error(self.last_file)

    @cached_property
    def _file_digests(self) -> dict[str, str]:
        """Digests of the atomic files, and of the item vectors, which depend on other files:
        pictures, templates, the vectors themselves."""
        known, features = get_registry(), features_of(self._train_dataset, self.config)
        loaded = [n for n in run_reads(self.config) if known.find(FeatureSpec, n).when == "loaded"]
        vectors = {name: features[name].fingerprint for name in loaded}
        return atomic_digests(self.config) | vectors

    def _prepare_training(self, train_data: AbstractDataLoader) -> None:
        super()._prepare_training(train_data)
        self._marks = run_state.mark_states(self.model)

    def _run_training(
        self,
        train_data: AbstractDataLoader,
        valid_data: object = None,
        *args: object,
        **kwargs: object,
    ) -> Any:
        self._loaders = (train_data, valid_data)
        return super()._run_training(train_data, valid_data, *args, **kwargs)

    def _train_epoch(
        self, train_data: AbstractDataLoader, epoch_idx: int, *args: Any, **kwargs: Any
    ) -> Any:
        point = self.resume_point
        if point.state is not None:
            rank = distributed.rank()
            run_state.restore_changes(self.model, point.state["model"][rank])
            run_state.set_random_state(point.state["random"][rank], self._loaders)
            self.resume_point = ResumePoint(point.tokens)
        elif self.last_file is not None:
            run = self._collect_run_state()  # gathered from all processes
            if distributed.is_main():
                write_checkpoint({**self._checkpoint(epoch_idx - 1), STOPPED: run}, self.last_file)
        return super()._train_epoch(train_data, epoch_idx, *args, **kwargs)

    def resume_run(self, file: str) -> None:
        """Resume from the file of `keep_last_file` as if not stopped; keep writing that file.

        Raises:
            ValueError: `load_run` refuses it.
        """
        checkpoint = load_run(file, self.config)
        load_model_state(self.model, checkpoint, file)
        self.resume_point = ResumePoint.from_checkpoint(checkpoint)
        self.run_file = self.saved_model_file = str(file_beside(file, checkpoint[STOPPED]["file"]))
        self.last_file = file
        self._restore_run(self.resume_point, checkpoint[STOPPED])

    def _restore_run(self, point: ResumePoint, state: dict[str, Any]) -> None:
        """Restore a stopped run to where its `state` was collected, except for random states and
        changed values of the model, which are restored as its first epoch starts."""
        self._restore_optimizer(point)
        self._restore_progress(state)
        best = "none"
        if self.best_valid_result:
            best = f"{self.config['valid_metric']} {self.best_valid_score:.4f}"
        phase = f"phase {self.phase_name}, " if self.phase_name else ""
        show(
            set_color("Resumed", "blue") + f" from {self.last_file}: {phase}epoch "
            f"{self.start_epoch + 1} is next, best so far {best}"
        )

    def _restore_optimizer(self, point: ResumePoint) -> None:
        restore(self.optimizer, point.optimizer, self.last_file or self.saved_model_file)
        self.start_epoch = point.epoch + 1
        self.cur_step, self.best_valid_score = point.cur_step, point.best_valid_score

    def _restore_progress(self, state: dict[str, Any]) -> None:
        result = decode(state["result"])
        self.best_valid_result = result and {k: v[()] for k, v in result.items()}
        self.train_loss_dict = dict(state["losses"])
        self.progress.restore(state["trainings"])
        for name, optimizer in self._more_optimizers().items():
            restore(optimizer, state["optimizers"].get(name, {}), self.last_file)

    def _collect_run_state(self) -> dict[str, Any]:
        result, more = self.best_valid_result, self._more_optimizers()
        return {
            "file": Path(self.run_file).name,
            "files": self._file_digests,
            "worker": self.config["worker"],  # depends on the machine, so not among the settings
            "best": Path(self.saved_model_file).name,
            # RecBole rounds some metrics as float32, which a Python float would not restore.
            "result": result and {k: np.asarray(v) for k, v in result.items()},
            "losses": dict(self.train_loss_dict),
            "trainings": self.progress.state(),
            "optimizers": {name: optimizer.state_dict() for name, optimizer in more.items()},
            "model": distributed.all_gather(run_state.find_changes(self.model, self._marks)),
            "random": distributed.all_gather(run_state.random_state(self._loaders)),
        }

    def _more_optimizers(self) -> dict[str, torch.optim.Optimizer]:
        """Optimizers besides ``optimizer``: RecVAE has one for each part of the model."""
        optimizers = {k: v for k, v in vars(self).items() if isinstance(v, torch.optim.Optimizer)}
        return {k: v for k, v in optimizers.items() if v is not self.optimizer}
