"""Marks of config keys, declared with their types: ``folder: Local[Free[Text | None]] = None``."""

from __future__ import annotations

from enum import Flag, auto
from typing import Annotated, TypeVar

T = TypeVar("T")


class Mark(Flag):
    """What a key is besides its value."""

    LOCAL = auto()  # a file, an address, the machine: no checkpoint has it, none is believed
    DONE = auto()  # its result is elsewhere in a checkpoint: in the weights, in eval_args
    AGAIN = auto()  # loading a checkpoint needs the user's value where the stored one is not taken
    FREE = auto()  # a run's numbers and vectors do not depend on it
    ALIKE = auto()  # how models are judged, and on which data: those of a comparison share it
    MODEL = auto()  # a hub's name, or a file
    TEMPLATE = auto()  # of a prompt, a name of one, or a file
    SUFFIX = auto()  # a part of the names of files


Local = Annotated[T, Mark.LOCAL]
Done = Annotated[T, Mark.DONE]
Again = Annotated[T, Mark.AGAIN]
Free = Annotated[T, Mark.FREE]
Alike = Annotated[T, Mark.ALIKE]
# RecBole's keys that no settings class declares: of the machine; files to start from.
MACHINE = ("config_files", "device", "ip", "port", "nproc", "world_size", "offset", "local_rank")
FILES = (
    "pre_model_path", "pretrain_path", "mf_pretrain_path", "mlp_pretrain_path", "warm_up",
    "xgb_model",
)  # fmt: skip
# Of those, the ones that a stage of a model starts from: the key of the stage, and such stages.
STARTS = {
    "pre_model_path": ("train_stage", ("critic_pretrain", "finetune")),
    "warm_up": ("phase", ("distillation", "finetuning")),
}
STOPPED = "run"  # key of a checkpoint: where a run stood that has not ended
# Stages (train_stage) that validate nothing and train pretrain_epochs, with the stage after each.
PRETRAINING = {
    "pretrain": "finetune", "actor_pretrain": "critic_pretrain", "critic_pretrain": "finetune",
}  # fmt: skip
