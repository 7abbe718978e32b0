"""The steps of a run, one function each; `quick_start` calls them in order."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager
from logging import getLogger
from typing import Any

from recbole.data.dataset import Dataset
from recbole.model.abstract_recommender import AbstractRecommender
from recbole.utils import init_seed

from recbole_llm.core.checkpoints.starts import check_start_numbers
from recbole_llm.core.checkpoints.tokens import Vocabulary
from recbole_llm.core.compat import import_late_packages, prints_logged
from recbole_llm.core.config import Config
from recbole_llm.core.errors import missing_packages_named
from recbole_llm.core.files import check_folder, remove_left_parts
from recbole_llm.core.keys.run import RunSettings
from recbole_llm.core.like_defaults import suspects_named
from recbole_llm.core.lines import shows_epoch_bars, shows_progress
from recbole_llm.core.log import init_log
from recbole_llm.core.memory import memory_needed_by
from recbole_llm.core.plugins.specs import spec_of
from recbole_llm.core.runtime import configure_runtime, release_heap, set_mixed_precision
from recbole_llm.features.item_init import initialize_items
from recbole_llm.models.base import SequenceTraining
from recbole_llm.offline.run import PreparedData, prepare_data
from recbole_llm.trainers.stock import trainer_of


def load_data(config: Config, vocabulary: Vocabulary | None = None) -> PreparedData:
    """The data set and its three data loaders, after the model's offline work and with its features
    attached."""
    _trainer_class(config)  # fails here rather than after the encoding of texts
    return prepare_data(config, vocabulary=vocabulary)


def build_model(config: Config, train_dataset: Dataset) -> Any:
    """The model on its device, with seeded weights, and its item table as ``item_init`` says."""
    init_seed(config["seed"], config["reproducibility"])
    name = config["model"]
    with missing_packages_named(name), prints_logged(name), suspects_named(config):
        import_late_packages(name)
        check_start_numbers(config, train_dataset)
        with memory_needed_by(name, "make it smaller"):
            model = config.model_class(config, train_dataset)
            tables = initialize_items(config, model, train_dataset)
            if tables and isinstance(model, SequenceTraining):
                model.scale_first_scores(RunSettings.of(config).item_init_score_std)
            release_heap(config)
            return model.to(config["device"])


def build_trainer(config: Config, model: AbstractRecommender) -> Any:
    """The model's trainer."""
    return _trainer_class(config)(config, model)


def _trainer_class(config: Config) -> type[Any]:
    return trainer_of(config.model_class, spec_of(config))


@contextmanager
def progress_shown(config: Config, trainer: Any) -> Iterator[bool]:
    """Show the trainer's progress as configured, and close its TensorBoard writer after the block;
    yields the ``show_progress`` argument for the trainer's methods."""
    bars = shows_epoch_bars(config)
    trainer.progress.shown = shows_progress(config) and not bars
    with closing(trainer.tensorboard):  # else its thread would outlive the run
        yield bars


def start(config: Config, trains: bool = False) -> None:
    """Seed this process, start its log, and set it up as the configuration says.

    Args:
        trains: whether a training follows: its output folders are checked now, not hours later.

    Raises:
        ValueError: an output folder of the training cannot be written.
    """
    if trains:
        folder = config["checkpoint_dir"]
        check_folder(folder, "set checkpoint_dir to another folder")
        check_folder("log_tensorboard", "start in a folder that can be written")
        remove_left_parts(folder)
    init_seed(config["seed"], config["reproducibility"])
    init_log(config, to_file=trains)
    if message := config.unknown_keys():
        getLogger("recbole_llm").warning(
            f"{message} (ignored; --strict_config=True makes this an error)"
        )
    configure_runtime(config)
    if config["enable_amp"]:
        set_mixed_precision(config["device"], config["enable_scaler"])
