"""What a model class may say of itself, and what holds where it does not.

RecBole's models, and plugins' that extend them, do not inherit from this package's base classes:
each trait is read here, with its default, and nowhere else.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from recbole.data.dataloader import AbstractDataLoader
    from recbole.model.abstract_recommender import AbstractRecommender

_SEQUENTIAL_OF_LABELS = ("DIN", "DIEN")  # RecBole's sequential models of clicks
_BUILT_ON_TRAINING = ("GENERAL", "KNOWLEDGE", "TRADITIONAL")  # of graphs, and the like


def learns_labels(model: type[AbstractRecommender]) -> bool:
    """Whether it learns the labels of interactions (``learns_labels = True``); always so for
    context-aware models, decision trees, DIN and DIEN."""
    of_labels = any(base.__name__ in _SEQUENTIAL_OF_LABELS for base in model.__mro__)
    by_kind = model.type.name in ("CONTEXT", "DECISIONTREE") or of_labels
    return by_kind or getattr(model, "learns_labels", False)


def built_on_training(model: type[AbstractRecommender]) -> bool:
    """Whether it keeps something of the training interactions that no checkpoint holds, such as a
    graph; by default so for general, knowledge-based and traditional models."""
    default = model.type.name in _BUILT_ON_TRAINING
    return bool(getattr(model, "built_on_training", default))


def default_loss(model: type) -> str | None:
    """The ``loss_type`` where no file, class of settings or user gives one; None by default."""
    return getattr(model, "default_loss", None)


def interaction_fields(model: type, keys: Mapping[str, Any]) -> list[str]:
    """Further fields of the interactions that it reads under some keys; none by default."""
    fields = getattr(model, "interaction_fields", None)
    return [] if fields is None else fields(keys)


def sequence_fields(model: type) -> tuple[str, ...]:
    """Further columns of a history that it reads; none by default."""
    return getattr(model, "sequence_fields", ())


def transferable_part(model: type) -> str | None:
    """The name of its submodule that fits any data set (``transferable``); None by default."""
    return getattr(model, "transferable", None)


def start_key(model: type | AbstractRecommender) -> str | None:
    """The key of a checkpoint whose phase the first one follows; None by default."""
    return getattr(model, "start_key", None)


def is_phased(model: type | AbstractRecommender) -> bool:
    """Whether it is trained in phases, each of which it enters by ``begin_phase``."""
    return hasattr(model, "begin_phase")


def takes_items(model: AbstractRecommender) -> bool:
    """Whether ``add_items`` makes sense under its present keys; so by default."""
    return bool(getattr(model, "takes_items", True))


def prepare_training(model: AbstractRecommender, train_data: AbstractDataLoader) -> None:
    """Its work between construction and training (``before_training``); none by default."""
    if hasattr(model, "before_training"):
        model.before_training(train_data)


def other_parameter_names(model: AbstractRecommender) -> tuple[str, ...]:
    """RecBole's ``other_parameter_name``: attributes that a checkpoint holds besides the weights;
    none by default."""
    return tuple(getattr(model, "other_parameter_name", ()))
