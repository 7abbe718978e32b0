"""Marks of config keys, written around their types:
``folder: Local[NoEffectOnResults[Text | None]] = None``."""

from __future__ import annotations

from enum import Flag, auto
from typing import Annotated, TypeVar

T = TypeVar("T")


class Mark(Flag):
    """What checkpoints, runs and comparisons need to know about a key besides its value."""

    LOCAL = auto()  # a file, an address, the machine: never stored in or taken from a checkpoint
    STORED_ELSEWHERE = auto()  # a checkpoint holds its result instead: in the weights, in eval_args
    ASK_ON_LOAD = auto()  # loading a checkpoint needs the user's value unless the stored is trusted
    NO_EFFECT_ON_RESULTS = auto()  # a run's numbers and vectors do not depend on it
    PART_OF_PROTOCOL = auto()  # how and on which data models are judged: the same in a comparison
    MODEL_NAME = auto()  # a name on the hub, or a file
    TEMPLATE = auto()  # a prompt template, its name, or its file
    FILE_SUFFIX = auto()  # a part of file names


Local = Annotated[T, Mark.LOCAL]
StoredElsewhere = Annotated[T, Mark.STORED_ELSEWHERE]
AskOnLoad = Annotated[T, Mark.ASK_ON_LOAD]
NoEffectOnResults = Annotated[T, Mark.NO_EFFECT_ON_RESULTS]
PartOfProtocol = Annotated[T, Mark.PART_OF_PROTOCOL]
