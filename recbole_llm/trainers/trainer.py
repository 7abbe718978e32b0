"""The trainer of most models; RecBole's other trainers with the engine are in `stock`."""

from __future__ import annotations

import os
from typing import Any

import torch
from recbole.data.dataloader import AbstractDataLoader
from torch.nn.utils import clip_grad_norm_

from recbole_llm.core.checkpoints.checkpoint import (
    load_checkpoint,
    load_model_state,
    model_state,
    require,
)
from recbole_llm.core.checkpoints.tokens import check_numbers, vocabulary_of
from recbole_llm.core.processes import distributed, randomness
from recbole_llm.data.loading.ranking_step import factors, has_factors
from recbole_llm.evaluation.ranking_blocks import BlockScores
from recbole_llm.trainers.errors import evaluation_memory_named
from recbole_llm.trainers.optimizers import TableAndRest, fuse, sparse_table
from recbole_llm.trainers.replicas import ReplicaTrainer
from recbole_llm.trainers.resume import ResumableMixin
from recbole_llm.trainers.resume_point import PARTS, ResumePoint


class Trainer(ResumableMixin, ReplicaTrainer):
    """RecBole's trainer with the engine, fused Adam, and checkpoints that hold nothing pickled."""

    enable_scaler: bool
    _items_a_block: int | None = None  # of the loader; see `recbole_llm.data.loading.ranking_step`

    def _build_optimizer(self, **kwargs: Any) -> torch.optim.Optimizer:
        table = sparse_table(self.model, self.config)
        if table is not None:
            kwargs["params"] = [p for p in self.model.parameters() if p is not table.weight]
        optimizer: torch.optim.Optimizer = super()._build_optimizer(**kwargs)
        if self.config["fused_optimizer"]:
            fuse(optimizer)
        if self.enable_scaler and self.config["clip_grad_norm"]:
            # RecBole clips gradients that are still scaled, to a norm some 65,536 times too small.
            self.clip_grad_norm = None
            optimizer.register_step_pre_hook(self._clip)
        if table is None:
            return optimizer
        return TableAndRest(optimizer, table.weight, self.learning_rate)

    def _clip(self, *_: object) -> None:
        clip_grad_norm_(self.model.parameters(), **self.config["clip_grad_norm"])

    def _checkpoint(self, epoch: int) -> dict[str, Any]:
        state = {**super()._checkpoint(epoch), **model_state(self.model)}
        return {**state, "optimizer": self.optimizer.state_dict()}

    def resume_checkpoint(self, resume_file: str | os.PathLike[str]) -> None:
        """Continue training from the best epoch's checkpoint, which the next ones overwrite, as in
        RecBole; `resume_run` instead continues from the last epoch, with its random numbers.

        Raises:
            ValueError: the file is no checkpoint, is damaged, or has another model or item vectors.
        """
        checkpoint = load_checkpoint(resume_file)
        require(checkpoint, PARTS, resume_file)
        load_model_state(self.model, checkpoint, resume_file)
        self.saved_model_file = str(resume_file)
        trained, present = checkpoint["config"].get("model"), self.config["model"]
        if trained != present:
            self.logger.warning(f"{resume_file} is of model {trained}, resumed as {present}")
        point = ResumePoint.from_checkpoint(checkpoint)
        self._restore_optimizer(point)
        self.resume_point = ResumePoint(point.tokens)
        self.logger.info(f"Checkpoint loaded. Resume training from epoch {self.start_epoch}")

    def evaluate(
        self,
        eval_data: AbstractDataLoader,
        load_best_model: bool = True,
        model_file: str | None = None,
        show_progress: bool = False,
    ) -> Any:
        """Metrics of the model, or of a checkpoint's weights; arguments and result as in RecBole.

        Raises:
            ValueError: the file is no checkpoint, is damaged, or has another model or item vectors.
        """
        if not eval_data:
            return None
        self._items_a_block = getattr(eval_data, "items_a_block", None)
        if load_best_model:
            file = model_file or self.saved_model_file
            distributed.barrier()  # until the checkpoint is saved
            checkpoint = load_checkpoint(file)
            if model_file is not None:  # else this run saved it
                check_numbers(vocabulary_of(eval_data.dataset), checkpoint.get("tokens"))
            load_model_state(self.model, checkpoint, file)
            self.logger.info(f"Loading model structure and parameters from {file}")
        self.eval_collector.begin(eval_data)
        with randomness.same_numpy_randomness(), evaluation_memory_named(self.config):
            return super().evaluate(eval_data, load_best_model=False, show_progress=show_progress)

    def _full_sort_batch_eval(self, batched_data: tuple[Any, ...]) -> tuple[Any, ...]:
        """The batch, its scores [B, n], and the rows and items of its positives; scores are
        `BlockScores` if the loader asks for blocks and the model has factors."""
        if self._items_a_block is None or not has_factors(type(self.model)):
            return super()._full_sort_batch_eval(batched_data)
        interaction, history, *positives = batched_data
        rows, items = factors(self.model, interaction.to(self.device))
        return interaction, BlockScores(rows, items, history, self._items_a_block), *positives
