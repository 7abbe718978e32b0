"""What a run has beyond its checkpoint: with it, a stopped run ends as if it had not been stopped.

The state lies in a file of its own beside the run's checkpoint, ``saved/PAD-…-last.pth``,
which is written before each epoch and removed when the run ends well.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from recbole.config import Config
from recbole.data.dataloader import AbstractDataLoader
from recbole.data.dataset import Dataset
from recbole.utils import set_color

from recbole_llm.core.checkpoints.checkpoint import (
    load_checkpoint,
    load_model_state,
    require,
    save_atomically,
)
from recbole_llm.core.checkpoints.plain import decode
from recbole_llm.core.checkpoints.stored import NEVER, plain_config
from recbole_llm.core.digest import fingerprints
from recbole_llm.core.errors import and_more
from recbole_llm.core.log import SHOWN
from recbole_llm.core.marks import STOPPED, Mark
from recbole_llm.core.plugins.loading import get_registry
from recbole_llm.core.processes import distributed, torchrun
from recbole_llm.evaluation.beyond import features_read
from recbole_llm.features.attach import features_of
from recbole_llm.trainers import run_state
from recbole_llm.trainers.engine import EngineMixin

_ATOMIC = (".inter", ".user", ".item", ".kg", ".link", ".net")
PARTS = ("state_dict", "optimizer", "epoch", "cur_step", "best_valid_score")
_STATE = (
    "file", "files", "worker", "best", "result", "losses", "trainings", "optimizers", "model",
    "random",
)  # fmt: skip


def part_file(run_file: str, part: str) -> str:
    """A further checkpoint of a run: ``saved/PAD-x.pth`` -> ``saved/PAD-x-align.pth``."""
    path = Path(run_file)
    return str(path.with_name(f"{path.stem}-{part}{path.suffix}"))


def load_run(file: str, config: Config) -> dict[str, Any]:
    """The checkpoint that a run is resumed from.

    Raises:
        ValueError: none, a damaged one, one that does not say where a run stood, one of another
            model, data set or settings, or one whose run's best weights are not beside it.
    """
    checkpoint = load_checkpoint(file)
    state = checkpoint.get(STOPPED)
    if not isinstance(state, dict):
        raise ValueError(
            f"resume: '{file}' holds a model but not where its run stood; that is in "
            f"<model>-…-last.pth, as long as the run has not ended"
        )
    require(checkpoint, PARTS, file)
    require(state, _STATE, file)
    told = plain_config(config, NEVER | Mark.FREE) | {"worker": config["worker"]}
    _check_same(checkpoint["config"] | {"worker": state["worker"]}, told, file)
    then, now = len(state["random"]), distributed.world_size()
    if then != now:
        raise ValueError(f"resume: '{file}' is of a run of {then} processes, not {now}")
    best = _beside(file, state["best"])
    if state["result"] is not None and not best.is_file():
        raise ValueError(f"resume: '{best}', the best weights of '{file}', is gone; start anew")
    return checkpoint


def _check_same(then: dict[str, Any], now: dict[str, Any], file: str) -> None:
    other = [k for k in sorted(then.keys() & now.keys()) if then[k] != now[k]]
    other = [k for k in ("model", "dataset") if k in other] or other
    if other:
        listed = ", ".join(f"{k}: {then[k]!r} (now {now[k]!r})" for k in other[:3])
        listed += and_more(other, 3)
        raise ValueError(
            f"resume: '{file}' is of a run with {listed}; repeat that run's command with "
            f"--resume={file}"
        )


def _beside(file: str, name: str) -> Path:
    """A file that a checkpoint names: never outside of the checkpoint's folder."""
    return Path(file).with_name(Path(name).name)


@contextmanager
def resumable(trainer: EngineMixin, wanted: bool = True) -> Iterator[None]:
    """Keep a run's file to resume from, until the block ends without an error."""
    if wanted:
        trainer.keep_last()
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
    """A training that goes on after a stop."""

    run_file: str  # the run's own checkpoint, where its last_file is kept
    best_valid_result: dict[str, Any] | None
    train_loss_dict: dict[int, float]
    _stood: dict[str, Any] | None = None  # a resumed run's state, until it trains
    _dataset: Dataset

    def keep_last(self) -> None:
        """Keep a file that a stopped run goes on from."""
        if self.last_file is None:
            self.run_file = self.saved_model_file
            self.last_file = part_file(self.run_file, "last")
            self.logger.info(
                set_color("If this run is stopped", "blue")
                + f", the same command with --resume={self.last_file} goes on"
            )

    def _train(
        self,
        train_data: AbstractDataLoader,
        valid_data: object = None,
        *args: object,
        **kwargs: object,
    ) -> Any:
        self._loaders = (train_data, valid_data)
        return super()._train(train_data, valid_data, *args, **kwargs)

    def keep_names(self, train_data: AbstractDataLoader) -> None:
        """As the base class's; a resumed run has to have the data that it began with."""
        super().keep_names(train_data)
        self._dataset = train_data._dataset
        if self._stood is None:
            return
        # Times, labels, fields and what is held out count, too.
        now = self._data_state.get("trained_on"), self._files
        if (self._trained_on, self._stood["files"]) != now:
            raise ValueError(
                f"resume: '{self.last_file}' is of a run on other data, since the files or "
                f"pictures changed; use them as they were, or start anew"
            )

    @cached_property
    def _files(self) -> dict[str, str]:
        """Digests of the atomic files, and of the items' vectors, which other files are read for:
        pictures, templates, vectors themselves."""
        atomic = fingerprints(self.config["data_path"], self.config["dataset"], _ATOMIC)
        known, features = get_registry(), features_of(self._dataset, self.config)
        loaded = [n for n in features_read(self.config) if known.feature(n).when == "loaded"]
        return atomic | {name: features[name].fingerprint for name in loaded}

    def _prepare(self, train_data: AbstractDataLoader) -> None:
        super()._prepare(train_data)
        self._marks = run_state.marks(self.model)

    def _train_epoch(
        self, train_data: AbstractDataLoader, epoch_idx: int, *args: Any, **kwargs: Any
    ) -> Any:
        stood, self._stood = self._stood, None
        if stood is not None:
            rank = distributed.rank()
            run_state.restore_changed(self.model, stood["model"][rank])
            run_state.set_random_state(stood["random"][rank], self._loaders)
        elif self.last_file is not None:
            run = self._run_state()  # which all processes have a part of
            if distributed.is_main():
                save_atomically({**self._checkpoint(epoch_idx - 1), STOPPED: run}, self.last_file)
        return super()._train_epoch(train_data, epoch_idx, *args, **kwargs)

    def resume_run(self, file: str) -> None:
        """Go on from what `keep_last` kept, as if not stopped; the file is kept on.

        Raises:
            ValueError: `load_run` refuses it.
        """
        checkpoint = load_run(file, self.config)
        load_model_state(self.model, checkpoint, file)
        self._resumed_tokens = checkpoint.get("tokens")
        self._trained_on, self._stood = checkpoint.get("trained_on"), checkpoint[STOPPED]
        own = _beside(file, self._stood["file"])
        self.run_file = self.saved_model_file = str(own)
        self.last_file = file
        self._stand(checkpoint)

    def _stand(self, checkpoint: dict[str, Any]) -> None:
        self._continue(checkpoint)
        self._restore_run(checkpoint[STOPPED])
        best = "none"
        if self.best_valid_result:
            best = f"{self.config['valid_metric']} {self.best_valid_score:.4f}"
        phase = f"phase {self.phase_name}, " if self.phase_name else ""
        self.logger.info(
            set_color("Resumed", "blue") + f" from {self.last_file}: {phase}epoch "
            f"{self.start_epoch + 1} is next, best so far {best}",
            extra=SHOWN,
        )

    def _run_state(self) -> dict[str, Any]:
        result, more = self.best_valid_result, self._more_optimizers()
        return {
            "file": Path(self.run_file).name,
            "files": self._files,
            "worker": self.config["worker"],  # of this machine, so not among the settings
            "best": Path(self.saved_model_file).name,
            # RecBole rounds some metrics as float32, which a Python float would not give back.
            "result": result and {k: np.asarray(v) for k, v in result.items()},
            "losses": dict(self.train_loss_dict),
            "trainings": self.progress.state(),
            "optimizers": {name: optimizer.state_dict() for name, optimizer in more.items()},
            "model": distributed.gathered(run_state.changed(self.model, self._marks)),
            "random": distributed.gathered(run_state.random_state(self._loaders)),
        }

    def _restore_run(self, state: dict[str, Any]) -> None:
        result = decode(state["result"])
        self.best_valid_result = result and {k: v[()] for k, v in result.items()}
        self.train_loss_dict = dict(state["losses"])
        self.progress.restore(state["trainings"])
        for name, optimizer in self._more_optimizers().items():
            optimizer.load_state_dict(state["optimizers"][name])

    def _more_optimizers(self) -> dict[str, torch.optim.Optimizer]:
        """RecVAE has one for each part of the model."""
        found = {k: v for k, v in vars(self).items() if isinstance(v, torch.optim.Optimizer)}
        return {k: v for k, v in found.items() if v is not self.optimizer}
