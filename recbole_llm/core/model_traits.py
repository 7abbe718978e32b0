"""Optional attributes by which a model class describes itself, with their defaults.

RecBole's models, and plugins' models that extend them, do not inherit from this package's base
classes. So each of these traits is read here, and nowhere else.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from recbole.data.dataloader import AbstractDataLoader
    from recbole.model.abstract_recommender import AbstractRecommender

_SEQUENTIAL_OF_LABELS = ("DIN", "DIEN")  # RecBole's sequential CTR models
_BUILT_ON_TRAINING = ("GENERAL", "KNOWLEDGE", "TRADITIONAL")  # which keep graphs and the like


def learns_labels(model: type[AbstractRecommender]) -> bool:
    """Return whether a model learns the labels of interactions (``learns_labels = True``), as
    context-aware models, decision trees, DIN and DIEN always do."""
    of_labels = any(base.__name__ in _SEQUENTIAL_OF_LABELS for base in model.__mro__)
    by_kind = model.type.name in ("CONTEXT", "DECISIONTREE") or of_labels
    return by_kind or getattr(model, "learns_labels", False)


def built_on_training(model: type[AbstractRecommender]) -> bool:
    """Return whether a model keeps something of the training interactions that no checkpoint
    holds, such as a graph; by default, general, knowledge-based and traditional models do."""
    default = model.type.name in _BUILT_ON_TRAINING
    return bool(getattr(model, "built_on_training", default))


def default_loss(model: type) -> str | None:
    """Return the ``loss_type`` if no file, settings class or user sets it; None by default."""
    return getattr(model, "default_loss", None)


def interaction_fields(model: type, keys: Mapping[str, Any]) -> list[str]:
    """Return further interaction fields that a model reads with these keys; none by default."""
    fields = getattr(model, "interaction_fields", None)
    return [] if fields is None else fields(keys)


def sequence_fields(model: type) -> tuple[str, ...]:
    """Return further columns of the histories that a model reads; none by default."""
    return getattr(model, "sequence_fields", ())


def transferable_part(model: type) -> str | None:
    """Return the name of the submodule that fits any data set (``transferable``), or None."""
    return getattr(model, "transferable", None)


def start_key(model: type | AbstractRecommender) -> str | None:
    """Return the key that names a checkpoint after whose phase a run begins; None by default."""
    return getattr(model, "start_key", None)


def is_phased(model: type | AbstractRecommender) -> bool:
    """Return whether a model is trained in phases, each of which begins with ``begin_phase``."""
    return hasattr(model, "begin_phase")


def takes_items(model: AbstractRecommender) -> bool:
    """Return whether ``add_items`` makes sense under the model's keys; True by default."""
    return bool(getattr(model, "takes_items", True))


def prepare_training(model: AbstractRecommender, train_data: AbstractDataLoader) -> None:
    """Do a model's work between construction and training, if any (``before_training``)."""
    if hasattr(model, "before_training"):
        model.before_training(train_data)


def other_parameter_names(model: AbstractRecommender) -> tuple[str, ...]:
    """Return RecBole's ``other_parameter_name``: attributes that a checkpoint holds besides the
    weights; none by default."""
    return tuple(getattr(model, "other_parameter_name", ()))
