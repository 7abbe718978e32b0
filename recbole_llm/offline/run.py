"""From a configuration to data loaders, with a model's stages and features in between."""

from __future__ import annotations

from collections.abc import Callable
from logging import getLogger
from typing import Literal, NamedTuple

from recbole.config import Config
from recbole.data.dataloader import AbstractDataLoader
from recbole.data.dataset import Dataset

from recbole_llm.core.checkpoints.tokens import Vocabulary
from recbole_llm.core.keys.evaluation import check_catalogue
from recbole_llm.core.plugins.loading import get_plugin_manager, get_registry
from recbole_llm.core.plugins.registry import StageSpec
from recbole_llm.core.plugins.specs import spec_of
from recbole_llm.core.processes import distributed
from recbole_llm.data.create import create_dataset
from recbole_llm.data.prepare import data_preparation
from recbole_llm.data.reading.unread import warn_of_missing_columns, warn_of_unread_columns
from recbole_llm.features.attach import attach_features, reads_items
from recbole_llm.offline.stage import StageReport, stage_class

Say = Callable[[StageReport], None]


class PreparedData(NamedTuple):
    """A data set, and the loaders of its splits."""

    dataset: Dataset
    train: AbstractDataLoader
    valid: AbstractDataLoader
    test: AbstractDataLoader

    @property
    def train_dataset(self) -> Dataset:
        """The training split, which models are built on."""
        return self.train.dataset


def _log(report: StageReport) -> None:
    getLogger("recbole_llm").info(str(report))


def stages_of(config: Config) -> list[StageSpec]:
    """The model's stages in order; ``encode`` goes first if the model reads item vectors.

    Raises:
        ValueError: a stage is not registered; near matches are listed.
    """
    registry = get_registry()
    names = spec_of(config).stages
    if reads_items(config):
        names = names if "encode" in names else ("encode", *names)
    return [registry.find(StageSpec, name) for name in names]


def complete(
    config: Config, dataset: Dataset, when: Literal["loaded", "split"], say: Say = _log
) -> None:
    """Complete the model's stages for one point in a run: data just loaded, or just split."""
    for spec in stages_of(config):
        if spec.when == when:
            say(stage_class(spec)(config, dataset).complete())


def load_dataset(config: Config, vocabulary: Vocabulary | None = None) -> Dataset:
    """The data set before it is split, as prepared by plugins; a checkpoint's `vocabulary`, if
    given, determines its ids."""
    dataset = create_dataset(config, vocabulary=vocabulary)
    get_plugin_manager().hook.prepare_dataset(config=config, dataset=dataset)
    return dataset


def prepare_data(
    config: Config, say: Say = _log, vocabulary: Vocabulary | None = None
) -> PreparedData:
    """Load the data set, do the offline work, attach the features, split.

    Args:
        say: called with the report of each stage.
        vocabulary: a checkpoint's tokens, which determine the ids of the data set.
    """
    dataset = load_dataset(config, vocabulary)
    check_catalogue(config, dataset.item_num - 1)  # one is the padding
    if vocabulary is None:  # a training follows
        warn_of_missing_columns(config, dataset)
        warn_of_unread_columns(config, dataset)
    with distributed.main_first():  # the others find the work done
        complete(config, dataset, "loaded", say)
        attach_features(config, dataset)
    data = PreparedData(dataset, *data_preparation(config, dataset))
    if vocabulary is None:  # else a model builds on demand what its checkpoint does not hold
        with distributed.main_first():
            complete(config, data.train_dataset, "split", say)
    return data
