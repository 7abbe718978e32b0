"""Training in phases, each an ordinary RecBole training with its own optimizer and best weights."""

from __future__ import annotations

import copy
import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from recbole.data.dataloader import AbstractDataLoader
from recbole.model.abstract_recommender import AbstractRecommender
from recbole.utils import set_color

from recbole_llm.core import model_traits
from recbole_llm.core.checkpoints.checkpoint import (
    STOPPED,
    load_checkpoint,
    load_model_state,
    write_checkpoint,
)
from recbole_llm.core.config import Config
from recbole_llm.core.processes import distributed
from recbole_llm.data.same_split import check_same_split
from recbole_llm.trainers.phase_logs import PhaseBoard, PhaseWriter
from recbole_llm.trainers.resume_point import ResumePoint, part_file
from recbole_llm.trainers.trainer import Trainer


@dataclass(frozen=True)
class Phase:
    """One phase of a training."""

    name: str  # as in the model's ``begin_phase`` and ``phase``
    epochs: int  # at most; 0 leaves the phase out
    learning_rate: float
    stopping_step: int  # validations without improvement that it tolerates
    summary: str = ""  # what the phase does, one line for the log

    @classmethod
    def from_config(cls, config: Config, name: str, summary: str = "") -> Phase:
        """Read ``<name>_epochs``, ``<name>_learning_rate`` and ``<name>_stopping_step``; a key
        that is None stands for the plain ``epochs``, ``learning_rate`` and ``stopping_step``."""

        def value(key: str) -> Any:
            of_phase = config[f"{name}_{key}"]
            return config[key] if of_phase is None else of_phase

        return cls(name, value("epochs"), value("learning_rate"), value("stopping_step"), summary)


class PhasedTrainer(Trainer):
    """The trainer, run once for each phase of a `PhasedRecommender` or a model with its methods.

    A phase has a new optimizer over its own parameters, stops early on validation, and ends with
    its best weights, from which the next one starts. Its checkpoint has the run's name and its
    own, ``saved/PAD-…-align.pth``; that of the last phase is copied to the run's own checkpoint.
    """

    tensorboard: Any
    wandblogger: Any

    def __init__(self, config: Config, model: AbstractRecommender) -> None:
        super().__init__(config, model)
        summaries = model.phase_summaries().items()
        self.phases = [Phase.from_config(config, *named) for named in summaries]
        self._first_phase = 0
        self._best_state: dict[str, Any] | None = None
        self._writer, self._board = self.tensorboard, self.wandblogger
        start_key = model_traits.start_key(model)
        if start_key is not None and config[start_key] is not None:
            self.start_after(config[start_key])
            # Checkpoints saved from here on include that start, so they load without its file.
            config[start_key] = None

    def start_after(self, file: str | os.PathLike[str]) -> None:
        """Start from the weights of another run's checkpoint, at the phase after that one's.

        Raises:
            ValueError: the checkpoint is missing, or is of a model of another shape, of the last
                phase, of a stopped run, or of another split, whose training may have seen what is
                held out here.
        """
        checkpoint = load_checkpoint(file)
        reached = (checkpoint.get("other_parameter") or {}).get("phase")
        self._first_phase = self._phase_index(reached, file) + 1
        if self._first_phase == len(self.phases):
            raise ValueError(f"'{file}' is of the last phase, '{reached}': no phase follows it")
        if STOPPED in checkpoint:
            raise ValueError(f"'{file}' is of a stopped run; resume it with --resume={file}")
        check_same_split(checkpoint["config"], self.config, file)
        load_model_state(self.model, self._with_own_starts(checkpoint), file)
        self.resume_point = ResumePoint(checkpoint.get("tokens"))
        self.logger.info(
            f"phase {self.phases[self._first_phase].name} starts from {reached}, {file}"
        )

    def _with_own_starts(self, checkpoint: dict[str, Any]) -> dict[str, Any]:
        """Put this run's own initial weights in place of those that no past phase has trained."""
        state = checkpoint.get("state_dict")
        if not isinstance(state, dict):
            return checkpoint
        current_phase, trained = self.model.phase, set()
        for phase in self.phases[: self._first_phase]:
            self.model.phase = phase.name
            trained |= {id(parameter) for parameter in self.model.phase_parameters()}
        self.model.phase = current_phase
        named = dict(self.model.named_parameters())
        parts = {_part_name(name) for name, parameter in named.items() if id(parameter) in trained}
        merged = {n: v for n, v in state.items() if _part_name(str(n)) in parts}
        untrained = {name for name, parameter in named.items() if id(parameter) not in trained}
        fresh = self.model.state_dict().items()
        merged |= {n: v for n, v in fresh if n in untrained or _part_name(n) not in parts}
        return {**checkpoint, "state_dict": merged}

    def resume_checkpoint(self, resume_file: str | os.PathLike[str]) -> None:
        """Resume a stopped run; the checkpoint of a phase's best weights does not say where."""
        self.resume_run(str(resume_file))

    def _phase_index(self, name: str | None, source: object) -> int:
        names = [phase.name for phase in self.phases]
        if name is None:
            raise ValueError(
                f"'{source}' is of a model without phases; a run of {self.config['model']} leaves "
                f"one checkpoint per phase: {', '.join(names)}"
            )
        if name not in names:
            raise ValueError(f"'{source}': phase {name!r} is none of {', '.join(names)}")
        return names.index(name)

    def _restore_run(self, point: ResumePoint, state: dict[str, Any]) -> None:
        """Find the stopped phase, whose start makes the optimizer and then restores the run."""
        self._first_phase = self._phase_index(self.model.phase, self.last_file)

    def fit(
        self,
        train_data: AbstractDataLoader,
        valid_data: Any = None,
        verbose: bool = True,
        saved: bool = True,
        show_progress: bool = False,
        callback_fn: Callable[[int, float], None] | None = None,
    ) -> tuple[float, Any]:
        """Run the phases from the first that is not done; arguments and result as in RecBole.

        The score and the result are the last phase's; the model ends with its best weights.
        """
        run_file = self.saved_model_file
        self._prepare_training(train_data)
        for phase in self.phases[self._first_phase :]:
            if phase.epochs <= 0:
                self.logger.info(f"phase {phase.name} is left out ({phase.name}_epochs: 0)")
                continue
            self.phase_name = phase.name
            self._begin_phase(phase, run_file)
            self._run_training(train_data, valid_data, verbose, saved, show_progress, callback_fn)
            self._end_phase(phase)
            if phase is self.phases[0]:
                self._warn_of_plateau(phase)
        self._end_run(run_file, saved)
        if self.best_valid_result is None and valid_data and self.config["eval_step"] > 0:
            self.eval_collector.data_collect(train_data)  # nothing was left to do, or to improve
            self.best_valid_score, self.best_valid_result = self._validate(valid_data)
        return self.best_valid_score, self.best_valid_result

    def _begin_phase(self, phase: Phase, run_file: str) -> None:
        point = self.resume_point
        if point.state is None:
            self.model.begin_phase(phase.name)
        self.model.zero_grad(set_to_none=True)  # another phase's would count in clipping
        self.epochs, self.stopping_step = phase.epochs, phase.stopping_step
        self.learning_rate = phase.learning_rate
        self.eval_step = min(self.config["eval_step"], phase.epochs)
        parameters = list(self.model.phase_parameters())
        self.optimizer = self._build_optimizer(params=parameters)
        self.start_epoch, self.cur_step = 0, 0
        self.best_valid_score = -np.inf if self.valid_metric_bigger else np.inf
        self.best_valid_result, self._best_state = None, None
        self.train_loss_dict = {}
        self.tensorboard = PhaseWriter(self._writer, phase.name)
        self.wandblogger = PhaseBoard(self._board, phase.name)
        self.saved_model_file = part_file(run_file, phase.name)
        self._log_phase(phase, sum(p.numel() for p in parameters if p.requires_grad))
        if point.state is not None:
            super()._restore_run(point, point.state)
            if self.best_valid_result is not None:
                self._best_state = load_checkpoint(self.saved_model_file)["state_dict"]

    def _log_phase(self, phase: Phase, trained: int) -> None:
        number = f"{self.phases.index(phase) + 1}/{len(self.phases)}"
        self.logger.info(
            set_color(f"phase {number} {phase.name}", "green")
            + f": {phase.summary} [at most {phase.epochs} epochs, learning rate "
            f"{phase.learning_rate:g}, stopping step {phase.stopping_step}, "
            f"{trained} parameters trained]"
        )

    def on_improvement(self) -> None:
        """Keep the weights, with which the phase ends unless later ones are better."""
        self._best_state = copy.deepcopy(self.model.state_dict())

    def _end_phase(self, phase: Phase) -> None:
        if self._best_state is not None:  # None without validation: the last weights count
            self.model.load_state_dict(self._best_state)
            self._best_state = None
        message = set_color(f"phase {phase.name} finished", "green")
        if self.best_valid_result is not None:
            message += f", best valid {self.config['valid_metric']}: {self.best_valid_score:.4f}"
        self.logger.info(message)

    def _warn_of_plateau(self, phase: Phase) -> None:
        """Warn if the phase, from which later ones start, stopped early and never beat its first
        score."""
        training = self.progress.trainings[-1]
        stopped = training.epoch < phase.epochs
        if stopped and training.curve and training.best_epoch == training.curve[0][0]:
            self.logger.warning(
                f"phase {phase.name} stopped after epoch {training.epoch} without improving on "
                f"epoch {training.best_epoch}, its first validation: raise "
                f"{phase.name}_stopping_step ({phase.stopping_step}) if more epochs might get past "
                f"a plateau"
            )

    def _end_run(self, run_file: str, saved: bool) -> None:
        """Switch back to the run's own checkpoint and logs."""
        last, self.saved_model_file = self.saved_model_file, run_file
        self.tensorboard, self.wandblogger = self._writer, self._board
        if not saved or not distributed.is_main():
            return
        if last == run_file:  # no phase was run
            self._save_checkpoint(-1, verbose=False)
        else:
            write_checkpoint(load_checkpoint(last), run_file)


def _part_name(name: str) -> tuple[str, ...]:
    """The part of a model that a weight belongs to, such as ``towers.id``."""
    return tuple(name.split(".")[:2])
